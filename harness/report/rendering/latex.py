"""Tables as LaTeX with booktabs' three rules, for any TeX: every character is escaped or has a command of its own."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from pylatexenc.latexencode import unicode_to_latex

from harness.report.rendering.sheet import LayoutCell, LayoutRow, TableLayout, plain

# Of what pylatexenc knows, that which a TeX without further fonts and packages can set.
PLAIN_TEX = re.compile("[ -~\u00a0-\u00ffΑ-ΡΣ-ω–—‘’“”…₀-₉→−√∞∈‖ℓ≠≤≥](?<![«¸»ÐÞðþ])")
OWN = {
    "|": "$|$", "`": r"\textasciigrave{}", "\u202f": r"\,",
    "[": "{[}", "]": "{]}", "*": "{*}",  # which a row's end would take for its own
}  # fmt: skip

PREAMBLE = r"""\documentclass[a4paper,landscape]{article}
\usepackage[utf8]{inputenc}
\usepackage{amsmath,amssymb}
\usepackage{array,booktabs}
\usepackage[margin=12mm]{geometry}
"""


def escaped(text: str) -> str:
    """Return text that TeX prints as it is; a letter that a plain TeX lacks is named by its code."""
    return re.sub("-(?=-)", "-{}", "".join(map(_character, text)))  # two hyphens would become a dash


@cache
def _character(character: str) -> str:
    if character in OWN:
        return OWN[character]
    if character in "\t\n\r" or unicodedata.category(character) == "Cc":
        return " "
    if PLAIN_TEX.fullmatch(character):
        return unicode_to_latex(character)
    return rf"\texttt{{U+{ord(character):04X}}}"


def latex_table(layout: TableLayout) -> str:
    """Return one table as a `table` environment with the paper's own number; it needs array and booktabs."""
    width = len(layout.columns)
    breaks = bool(layout.result.pivot.table.file.facts)
    columns = r">{\raggedright\arraybackslash}p{27mm}" * width if breaks else "l" * width
    stack = _wrapping if breaks else _stacked
    body, foot = ([_row(row, width, stack) for row in rows] for rows in (layout.body, layout.foot))
    lines = [
        r"\begin{table}[p]", r"\centering\small", *_caption(layout),
        rf"\begin{{tabular}}{{@{{}}l{columns}@{{}}}}",
        r"\toprule", *_head(layout), r"\midrule", *body, *([r"\midrule", *foot] if foot else ()),
        r"\bottomrule", r"\end{tabular}", *_beneath(layout.footnotes), r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _caption(layout: TableLayout) -> Iterable[str]:
    """The caption under the paper's number; a table that the paper does not have goes without one."""
    table = layout.result.pivot.table
    caption = rf"\textbf{{{escaped(table.file.title)}.}} {escaped(layout.caption)}"
    if table.name_in_words == table.file.title:
        yield rf"{{\raggedright {caption}\par\medskip}}"
        return
    kind, _, number = map(escaped, table.name_in_words.partition(" "))
    yield rf"\renewcommand{{\tablename}}{{{kind}}}\renewcommand{{\thetable}}{{{number}}}"
    yield rf"\caption{{{caption}}}"


def latex_document(names: Sequence[str]) -> str:
    """Return a document that shows every table of a study; it stands beside their files."""
    inputs = "".join(f"\\input{{{name}}}\n\\clearpage\n" for name in names)
    return f"{PREAMBLE}\\begin{{document}}\n{inputs}\\end{{document}}\n"


def _head(layout: TableLayout) -> Iterable[str]:
    width = len(layout.columns)
    if layout.over:
        yield rf" & \multicolumn{{{width}}}{{l}}{{{escaped(layout.over)}}} \\ \cmidrule(l){{2-{width + 1}}}"
    yield " & ".join(map(_heading, (layout.corner, *layout.columns))) + r" \\"


def _heading(text: str) -> str:
    return rf"\textbf{{{escaped(text)}}}" if text else ""


def _row(row: LayoutRow, width: int, stack: Callable[[Sequence[str]], str]) -> str:
    cells = [_lines(cell) for cell in row.cells]
    label = escaped(plain(row.label))
    if row.across:
        words = r" \quad ".join(cells[0])
        return rf"{label} & \multicolumn{{{width}}}{{l}}{{{words}}} \\"
    tall = any(len(lines) > 1 for lines in cells)
    return " & ".join([label, *map(stack, cells)]) + (r" \\ \addlinespace[1pt]" if tall else r" \\")


def _lines(cell: LayoutCell) -> list[str]:
    """The first line bold where it is the best, the others small."""
    first, *others = [escaped(plain(line)) for line in cell.lines.values()] or [""]
    value = rf"\textbf{{{first}}}" if cell.kind == "best" else first
    return [value, *(rf"{{\footnotesize {words}}}" for words in others)]


def _stacked(lines: Sequence[str]) -> str:
    """The value with its change beside it, and the paper's beneath."""
    if len(lines) < 2:
        return lines[0]
    return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{'~ '.join(lines[:-1])} \\ {lines[-1]}\end{{tabular}}"


def _wrapping(lines: Sequence[str]) -> str:
    """Lines one after the other, in a column that breaks them."""
    return r" \newline ".join(lines)


def _beneath(footnotes: Sequence[str]) -> Iterable[str]:
    yield from (rf"\par\smallskip{{\footnotesize\raggedright {escaped(note)}\par}}" for note in footnotes)
