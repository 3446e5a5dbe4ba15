"""Tables as GitHub-flavoured Markdown: markup, formulas and HTML in names and reasons are shown as text."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from harness.report.rendering.sheet import LayoutCell, TableLayout, plain

PUNCTUATION = re.compile(r"([\\`*_\[\]|~$]|^[#+=-](?=\s|$))")


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    flat = " ".join(text.split()) if "\n" in text or "\r" in text else text
    return escape(PUNCTUATION.sub(r"\\\1", flat), quote=False)


def markdown_table(layout: TableLayout) -> str:
    """Return a table beneath its heading, with its caption and footnotes after it."""
    width = len(layout.columns)
    head = [escaped(words) for words in (layout.corner, *layout.columns)]
    rows = [[escaped(plain(row.label)), *map(_printed, row.cells)] for row in (*layout.body, *layout.foot)]
    filled = [row + [""] * (1 + width - len(row)) for row in rows]  # what goes across stands in the first column
    beneath = [line for note in (layout.caption, *layout.footnotes) for line in ("", escaped(note))]
    return "\n".join([f"## {escaped(layout.heading)}", "", *plain_table(head, filled), *beneath]) + "\n"


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table from cells that are escaped already."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _printed(cell: LayoutCell) -> str:
    lines = [escaped(plain(line)) for line in cell.lines.values()]
    return "<br>".join([f"**{lines[0]}**" if cell.kind == "best" else lines[0], *lines[1:]]) if lines else ""
