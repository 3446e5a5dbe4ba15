"""The files beside the page: each table as LaTeX, Markdown and CSV, `report.json`, and a summary for a CI job."""

from collections.abc import Sequence
from pathlib import Path

from harness.files import write_bytes, write_json
from harness.report.analysis.claims import Verdict, summary_sentences, table_claims, verdicts_used
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.text import listed, missing_list
from harness.report.rendering.latex import latex_document, latex_table
from harness.report.rendering.markdown import escaped, markdown_table, plain_table
from harness.report.rendering.record import scales_of, study_record, table_csv
from harness.report.rendering.sheet import sheet
from harness.report.rendering.study_summary import heading

FORMATS = Path(__file__).parents[1] / "templates"


def write_takeaway(study: str, pivots: Sequence[Pivot], target: Path) -> None:
    """Write `tables/<table>.tex`, `.md` and `.csv`, `tables/all.tex`, `report.json` and `summary.md` in `target`."""
    folder = target / "tables"
    for pivot in pivots:
        words, title, name = sheet(pivot), heading(pivot.table), pivot.table.name
        _write(folder / f"{name}.tex", latex_table(words, pivot))
        _write(folder / f"{name}.md", markdown_table(words, title))
        _write(folder / f"{name}.csv", table_csv(pivot))
    for suffix in (".tex", ".md"):
        _write(folder / f"table1{suffix}", (FORMATS / f"objectives{suffix}").read_text(encoding="utf-8"))
    _write(folder / "all.tex", latex_document(["table1", *(pivot.table.name for pivot in pivots)]))
    write_json(target / "report.json", study_record(study, pivots))
    _write(target / "summary.md", summary(study, pivots))


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def summary(study: str, pivots: Sequence[Pivot]) -> str:
    """Return the report in short as GitHub-flavoured Markdown, as a CI job shows it."""
    title = listed([scale.title for scale in scales_of(pivots)])
    notes = [scale.note for scale in scales_of(pivots) if scale.note]
    lines = [f"# Dispersive Loss: study {escaped(study)}", ""]
    lines += [escaped(" ".join([f"{title[:1].upper()}{title[1:]}.", *notes])), ""]
    lines += [f"- {escaped(sentence)}" for sentence in summary_sentences(pivots)]
    if used := verdicts_used(pivots):
        lines += ["", *plain_table(["table", *used], [_counts(pivot, used) for pivot in pivots])]
    lines += [""]
    parts = [markdown_table(sheet(pivot), heading(pivot.table)) + _missing(pivot) for pivot in pivots]
    return "\n".join(["\n".join(lines), *parts])


def _counts(pivot: Pivot, verdicts: Sequence[Verdict]) -> list[str]:
    claims = table_claims(pivot)
    return [escaped(pivot.table.name_in_words), *(str(claims.count(verdict)) for verdict in verdicts)]


def _missing(pivot: Pivot) -> str:
    found = [f"- {escaped(f'{state}: {sentence}')}" for state, sentence in missing_list(pivot)]
    return "\n".join(["", "Missing:", "", *found, ""]) if found else ""
