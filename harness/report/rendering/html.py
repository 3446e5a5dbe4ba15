"""Templates into HTML, with every value escaped, and the scripts that a page may run, named by their hash."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.analysis import text
from harness.report.rendering.sheet import runs_anchor

TEMPLATES = Path(__file__).parents[1] / "templates"
WORDS = (
    text.anchor, text.counted, text.interval_words, text.listed, text.number, text.p_words, text.percent_change,
    text.signed_percent,
)  # fmt: skip


def render(values: Mapping[str, Any], template: str = "page.html.j2") -> str:
    """Fill a template; every value is escaped, so that a name or a traceback with HTML in it is shown as text."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for words in (*WORDS, runs_anchor):
        environment.filters[words.__name__] = words
    return environment


def script_of(*names: str) -> dict[str, str]:
    """Return our scripts as one, and the hash by which a page's policy lets it run and no other."""
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}
