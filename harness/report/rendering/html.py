"""Templates into text, with every value escaped, and the scripts that a page may run, named by their hash."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report import TEMPLATES
from harness.report.analysis import claims, stated_claims, text
from harness.report.rendering import objectives, sheet

NUMBERS = ("anchor", "counted", "interval_words", "listed", "number", "p_words", "percent_change", "signed_percent")


def render(values: Mapping[str, Any], template: str = "page.html.j2") -> str:
    """Fill a template; every value is escaped, so that a name or a traceback with HTML in it is shown as text."""
    return HTML.get_template(template).render(values)


def short_json(values: Mapping[str, float]) -> str:
    """Return numbers by name as JSON for a script, each with six digits."""
    return json.dumps({name: float(f"{value:.6g}") for name, value in values.items()}, separators=(",", ":"))


def environment(escaped: Callable[[str], str] | None = None, **delimiters: Any) -> Environment:
    """Return templates that escape every value by `escaped`, for HTML by default; `delimiters` are Jinja's own."""

    def finalize(value: Any) -> Any:
        return value if escaped is None or hasattr(value, "__html__") else Markup(escaped(str(value)))  # noqa: S704

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize,
        **delimiters,
    )
    made.filters |= {name: getattr(text, name) for name in NUMBERS}
    made.globals["meanings"] = text.MEANINGS
    made.filters |= {
        "drawing": objectives.drawing,
        "in_markdown": objectives.in_markdown,
        "is_mathematics": objectives.is_mathematics,
        "together": claims.together,
        "claim_sentences": stated_claims.claim_sentences,
        "plain": sheet.plain,
        "run_value": sheet.run_value,
        "runs_anchor": text.runs_anchor,
        "short_json": short_json,
    }
    return made


HTML = environment()


def script_of(*names: str) -> dict[str, str]:
    """Return our scripts as one, and the hash by which a page's policy lets it run and no other."""
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}
