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


def documented_files() -> list[str]:
    """Return the plug-ins that docs/plugins.md shows: a term; a process and a sampler."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)


def documented_term() -> str:
    """Return the first of them."""
    return documented_files()[0]


def write_plugin_grid(folder: Path) -> Path:
    """Write the documented plug-in, a grid that uses it, and the scales; return the grid's path."""
    for name in ("scales", "presets"):
        shutil.copytree(GRIDS / name, folder / name)
    (folder / "near_times.py").write_text(documented_term())
    (folder / "mine.yaml").write_text(GRID)
    return folder / "mine.yaml"


def write_process_grid(folder: Path, row: str) -> Path:
    """Write the documented process and sampler, and a grid of SiT and a row of that; return the grid's path."""
    grid = write_plugin_grid(folder)
    (folder / "near_times.py").unlink()
    (folder / "trig.py").write_text(documented_files()[1])
    words = GRID.replace("near_times.py", "trig.py").replace("Near times", "Trig")
    grid.write_text(words.replace("{terms: {near: {kind: near-times, lambda: 0.5, width: 0.2}}}", row))
    return grid
