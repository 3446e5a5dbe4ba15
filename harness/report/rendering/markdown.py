"""Tables as GitHub-flavoured Markdown: markup, formulas and HTML in names and reasons are shown as text."""

import html
import re
from collections.abc import Sequence

from harness.report.analysis.stated_claims import StatedClaims
from harness.report.analysis.text import on_one_line
from harness.report.rendering.html import environment
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import StudySummary

PUNCTUATION = re.compile(r"([\\`*_\[\]|~$]|^[#+=-](?=\s|$))")


def markdown_table(layout: TableLayout) -> str:
    """Return a table beneath its heading, with its caption and footnotes after it."""
    return MARKDOWN.get_template("table.md.j2").render(layout=layout)


def markdown_summary(
    summary: StudySummary,
    layouts: Sequence[TableLayout],
    claims: StatedClaims | None = None,
    findings: Sequence[str] = (),
) -> str:
    """Return the report in short, as a CI job shows it; findings: sentences that are of no table's."""
    template = MARKDOWN.get_template("summary.md.j2")
    return template.render(summary=summary, layouts=layouts, claims=claims, findings=findings)


def markdown_terms(summary: StudySummary) -> str:
    """Return the terms of a study's losses as a table beneath its heading."""
    return MARKDOWN.get_template("study_terms.md.j2").render(terms=summary.terms, beside_paper=summary.beside_paper)


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    return html.escape(PUNCTUATION.sub(r"\\\1", on_one_line(text)), quote=False)


MARKDOWN = environment(escaped)
