"""Tables as GitHub-flavoured Markdown: markup, formulas and HTML in names and reasons are shown as text."""

import re
from collections.abc import Iterable, Sequence

from harness.report.rendering.sheet import LayoutCell, LayoutRow, TableLayout

PUNCTUATION = re.compile(r"([\\`*_\[\]|~$]|^[#+=-](?=\s|$))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    flat = " ".join(text.split(None)) if "\n" in text or "\r" in text else text
    marked = PUNCTUATION.sub(r"\\\1", flat)
    return "".join(ENTITIES.get(character, character) for character in marked)


def markdown_table(laid_out: TableLayout, heading: str, level: int = 2) -> str:
    """Return a table beneath its heading, with its caption and footnotes after it."""
    lines = [f"{'#' * level} {escaped(heading)}", "", *_rows(laid_out), "", escaped(laid_out.caption)]
    for note in laid_out.footnotes:
        lines += ["", escaped(note)]
    return "\n".join(lines) + "\n"


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table from cells that are escaped already."""
    return [_joined(head), _joined(["---"] * len(head)), *map(_joined, rows)]


def _rows(laid_out: TableLayout) -> list[str]:
    head = [laid_out.corner, *laid_out.columns]
    rows = [[escaped(row.label), *_cells(row, len(laid_out.columns))] for row in laid_out.rows]
    return plain_table([escaped(word) for word in head], rows)


def _cells(row: LayoutRow, width: int) -> list[str]:
    cells = [_printed(cell) for cell in row.cells]
    return cells + [""] * (width - len(cells))  # what goes across stands in the first column


def _printed(cell: LayoutCell) -> str:
    lines = [escaped(line) for line in cell.lines]
    return "<br>".join([f"**{lines[0]}**" if cell.best else lines[0], *lines[1:]]) if lines else ""


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
