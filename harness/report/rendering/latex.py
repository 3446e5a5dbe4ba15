"""Tables as LaTeX with booktabs' three rules, for any TeX: every character is escaped or has a command of its own."""

import re
from collections.abc import Mapping
from functools import cache

from pylatexenc.latexencode import unicode_to_latex

from harness.report.analysis.text import on_one_line
from harness.report.rendering import captions
from harness.report.rendering.html import environment
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import StudySummary

# Of what pylatexenc knows, that which a TeX without further fonts and packages can set.
PLAIN_TEX = re.compile("[ -~\u00a0-\u00ffΑ-ΡΣ-ω–—‘’“”…₀-₉→−√∞∈‖ℓ≠≤≥](?<![«¸»ÐÞðþ])")
FILE_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")
OWN = {  # brackets and stars a row's end would take for its own
    "[": "{[}", "]": "{]}", "*": "{*}", "|": "$|$", "`": r"\textasciigrave{}", "\u202f": r"\,",
}  # fmt: skip


def latex_table(layout: TableLayout) -> str:
    """Return one table as a `table` environment with the paper's own number; it needs array and booktabs."""
    pivot = layout.result.pivot
    elsewhere = captions.elsewhere_sentences(pivot)
    return LATEX.get_template("table.tex.j2").render(layout=layout, table=pivot.table, elsewhere=elsewhere)


def latex_document(tables: Mapping[str, str]) -> str:
    """Return a document that shows every table of a study, name → LaTeX; it stands beside their files.

    It asks for a table by its file's name where that name means nothing to TeX, and else holds the table itself.
    """
    parts = [rf"\input{{{name}}}" if FILE_NAME.fullmatch(name) else text for name, text in tables.items()]
    return LATEX.get_template("all.tex.j2").render(parts=parts)


def latex_terms(summary: StudySummary) -> str:
    """Return the terms of a study's losses as a `table` environment."""
    return LATEX.get_template("study_terms.tex.j2").render(terms=summary.terms, beside_paper=summary.beside_paper)


def escaped(text: str) -> str:
    """Return text that TeX prints as it is; a letter that a plain TeX lacks is named by its code."""
    return re.sub("-(?=-)", "-{}", "".join(map(_character, on_one_line(text))))  # two hyphens would become a dash


@cache
def _character(character: str) -> str:
    if character in OWN:
        return OWN[character]
    if PLAIN_TEX.fullmatch(character):
        return str(unicode_to_latex(character))
    return rf"\texttt{{U+{ord(character):04X}}}"


LATEX = environment(escaped, variable_start_string="<<", variable_end_string=">>")  # braces are TeX's own
