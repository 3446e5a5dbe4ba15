"""Plug-ins as people write them: the documented one, and grids that use them."""

import re
import shutil
from pathlib import Path

from support.places import GRIDS, ROOT

GRID = """
table: mine
title: My method
question: Does it help?
rows: method
baseline: {method: none}
plugins: [near_times.py]
base: {preset: paper, model: SiT-B/2, epochs: 20, regularizer.loss: none}
axes:
  method:
    none: {}
    Near times: {terms: {near: {kind: near-times, lambda: 0.5, width: 0.2}}}
vary:
  - product: {method: [none, Near times]}
"""


def documented_term() -> str:
    """Return the file that docs/plugins.md shows."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    return re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]  # type: ignore[index]


def write_plugin_grid(folder: Path) -> Path:
    """Write the documented plug-in, a grid that uses it, and the scales; return the grid's path."""
    for name in ("scales", "presets"):
        shutil.copytree(GRIDS / name, folder / name)
    (folder / "near_times.py").write_text(documented_term())
    (folder / "mine.yaml").write_text(GRID)
    return folder / "mine.yaml"
