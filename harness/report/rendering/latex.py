"""Tables as LaTeX with booktabs' three rules, for any TeX: every character is escaped or has a command of its own."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from harness.report.analysis.pivot import Pivot
from harness.report.rendering.sheet import LayoutCell, LayoutRow, TableLayout

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "[": "{[}", "]": "{]}", "*": "{*}",  # which a row's end would take for its own
    "`": r"\textasciigrave{}",
    "\u00a0": "~", "\u202f": r"\,", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$",
    "≥": r"$\geq$", "≠": r"$\neq$", "→": r"$\to$", "…": r"\ldots{}", "–": r"\textendash{}", "—": r"\textemdash{}",
    "‖": r"$\|$", "‘": "`", "’": "'", "“": "``", "”": "''", "ℓ": r"$\ell$", "√": r"$\surd$", "∞": r"$\infty$",
    "∈": r"$\in$",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
LATIN = re.compile(r"[À-ÏÑ-ÖØ-Ýß-ïñ-öø-ýÿ]")  # those that the old Computer Modern can put together

PREAMBLE = r"""\documentclass[a4paper,landscape]{article}
\usepackage[utf8]{inputenc}
\usepackage{amsmath,amssymb}
\usepackage{array,booktabs}
\usepackage[margin=12mm]{geometry}
"""


def escaped(text: str) -> str:
    """Return text that TeX prints as it is; a letter that a plain TeX lacks is named by its code."""
    return re.sub("-(?=-)", "-{}", "".join(map(_character, text)))  # two hyphens would become a dash


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character in GREEK:
        return rf"$\{GREEK[character]}$"
    if "₀" <= character <= "₉":
        return f"$_{character.translate(SUBSCRIPTS)}$"
    if character.isspace() or unicodedata.category(character) == "Cc":
        return " "
    if character.isascii() or LATIN.fullmatch(character):
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def latex_table(laid_out: TableLayout, pivot: Pivot) -> str:
    """Return one table as a `table` environment with the paper's own number; it needs array and booktabs."""
    width = len(laid_out.columns)
    breaks = bool(pivot.table.file.facts)
    columns = r">{\raggedright\arraybackslash}p{27mm}" * width if breaks else "l" * width
    stack = _wrapping if breaks else _stacked
    inside = [_row(row, width, stack) for row in laid_out.rows if not row.aside]
    asides = [_row(row, width, stack) for row in laid_out.rows if row.aside]
    lines = [
        r"\begin{table}[p]", r"\centering\small", *_caption(pivot, laid_out.caption),
        rf"\begin{{tabular}}{{@{{}}l{columns}@{{}}}}",
        r"\toprule", *_head(laid_out), r"\midrule", *inside, *([r"\midrule", *asides] if asides else ()),
        r"\bottomrule", r"\end{tabular}", *_beneath(laid_out.footnotes), r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _caption(pivot: Pivot, words: str) -> Iterable[str]:
    """The caption under the paper's number; a table that the paper does not have goes without one."""
    name, title = pivot.table.name_in_words, pivot.table.file.title
    said = rf"\textbf{{{escaped(title)}.}} {escaped(words)}"
    if name == title:
        yield rf"{{\raggedright {said}\par\medskip}}"
        return
    kind, _, number = name.partition(" ")
    yield rf"\renewcommand{{\tablename}}{{{escaped(kind)}}}\renewcommand{{\thetable}}{{{escaped(number)}}}"
    yield rf"\caption{{{said}}}"


def latex_document(names: Sequence[str]) -> str:
    """Return a document that shows every table of a study; it stands beside their files."""
    inputs = "".join(f"\\input{{{name}}}\n\\clearpage\n" for name in names)
    return f"{PREAMBLE}\\begin{{document}}\n{inputs}\\end{{document}}\n"


def _head(laid_out: TableLayout) -> Iterable[str]:
    width = len(laid_out.columns)
    if laid_out.over:
        yield rf" & \multicolumn{{{width}}}{{l}}{{{escaped(laid_out.over)}}} \\ \cmidrule(l){{2-{width + 1}}}"
    yield " & ".join(map(_heading, (laid_out.corner, *laid_out.columns))) + r" \\"


def _heading(text: str) -> str:
    return rf"\textbf{{{escaped(text)}}}" if text else ""


def _row(row: LayoutRow, width: int, stack: Callable[[LayoutCell], str]) -> str:
    cells = [stack(cell) for cell in row.cells]
    if row.across:
        words = r" \quad ".join(_line(row.cells[0], index) for index in range(len(row.cells[0].lines)))
        cells = [rf"\multicolumn{{{width}}}{{l}}{{{words}}}"]
    tall = not row.across and any(len(cell.lines) > 1 for cell in row.cells)
    return " & ".join([escaped(row.label), *cells]) + (r" \\ \addlinespace[1pt]" if tall else r" \\")


def _stacked(cell: LayoutCell) -> str:
    """The value with its change beside it, and the paper's beneath."""
    lines = [_line(cell, index) for index in range(len(cell.lines))]
    if len(lines) < 2:
        return "".join(lines)
    beside = rf"{r'~ '.join(lines[:-1])} \\ {lines[-1]}"
    return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{beside}\end{{tabular}}"


def _wrapping(cell: LayoutCell) -> str:
    """Lines one after the other, in a column that breaks them."""
    return r" \newline ".join(_line(cell, index) for index in range(len(cell.lines)))


def _line(cell: LayoutCell, index: int) -> str:
    words = escaped(cell.lines[index])
    if index:
        return rf"{{\footnotesize {words}}}"
    return rf"\textbf{{{words}}}" if cell.best else words


def _beneath(footnotes: Sequence[str]) -> Iterable[str]:
    yield from (rf"\par\smallskip{{\footnotesize\raggedright {escaped(note)}\par}}" for note in footnotes)
