"""Sections of the page that plug-ins write, as a table's grid names them under `sections`.

One is a function from the analysed tables of the study to a title and blocks: a text is a paragraph, a list of rows a
table whose first row is its head. All of it is text: the page escapes it.
"""

from collections.abc import Callable, Sequence

from harness.errors import UserError
from harness.plain_text import escape_controls
from harness.plugins import Registry
from harness.report.analysis.pivot import Pivot

Rows = list[list[str]]
Written = tuple[str, list[str | Rows]]  # title and blocks
SECTIONS: Registry[Callable[[Sequence[Pivot]], Written]] = Registry("sections", "section", {})


def plugin_sections(pivots: Sequence[Pivot]) -> list[Written]:
    """Return the sections that the grids name, each once; one whose plug-in is not here says so.

    Raises:
        UserError: what a plug-in gives is no section.
    """
    return [_section(name, pivots) for name in dict.fromkeys(n for p in pivots for n in p.table.file.sections)]


def _section(name: str, pivots: Sequence[Pivot]) -> Written:
    if name not in SECTIONS:
        return name, ["This section is of a plug-in that is not here: make the report again with --plugin FILE."]
    try:
        title, blocks = SECTIONS[name](pivots)
        return _text(title), [_text(block) if isinstance(block, str) else _rows(block) for block in blocks]
    except (TypeError, ValueError) as error:
        raise UserError(f"section {name}: a title and a list of texts and of rows is expected: {error}") from None


def _rows(rows: Rows) -> Rows:
    return [[_text(cell) for cell in row] for row in rows]


def _text(text: object) -> str:
    return escape_controls(str(text))
