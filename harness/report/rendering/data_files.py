"""The files beside the page: `results.csv`, `report.json`, each table as LaTeX, Markdown and CSV, and `summary.md`.

CSV is safe to open in a spreadsheet: a text that would be run as a formula is shown as text, on one line.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import check_no_links, gc_paused, read_yaml, replace, write_bytes, write_json
from harness.plain_text import UNSEEN
from harness.report import TEMPLATES
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.stated_claims import StatedClaims, claims_record
from harness.report.analysis.text import is_number, on_one_line, state_words
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.latex import latex_document, latex_table, latex_terms
from harness.report.rendering.markdown import markdown_summary, markdown_table, markdown_terms
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import StudySummary
from harness.store.store import Store
from harness.store.study import study_tables

# How a text begins that Excel, LibreOffice or Google Sheets may run, with what is not seen before it: a sign, or what
# Unicode holds compatible with one. A semicolon separates cells where the comma is decimal.
FORMULA = re.compile(f"(^|;)(?=[\\s{UNSEEN}]*[=+@⁺⁼₊₌⩵⩶﬩﹢﹣﹦﹫＋－＝＠-])")

COLUMNS: dict[str, dict[str, str]] = read_yaml(TEMPLATES / "csv_columns.yaml")


def shown_as_text(value: Any) -> Any:
    """Return a value for a cell: before a text that begins like a formula stands an apostrophe; numbers stay bare.

    A text is on one line, and a control character a blank: a reader that ends a row there would begin a cell.
    """
    if not isinstance(value, str) or is_number(value):
        return value
    return FORMULA.sub(r"\1'", on_one_line(value))


def csv_of(frame: pd.DataFrame) -> str:
    """Return a frame as CSV with a header and numbers in full, empty where there is none."""
    safe = frame.copy(deep=False)
    for name in frame.select_dtypes(exclude="number"):
        safe[name] = frame[name].astype("category").map(shown_as_text)  # a long frame says the same in many rows
    return safe.to_csv(index=False, lineterminator="\n", header=list(map(shown_as_text, frame.columns)))


@gc_paused()
def collect_study(store: Store, reports: Path) -> Path:
    """Write a study's results as one tidy CSV (and Parquet where pyarrow is installed), and return the CSV's path.

    Raises:
        UserError: there is no such study, one of its grid files cannot be read any more, or the folder is a link.
    """
    path = reports / store.study / "results.csv"
    check_no_links(path.parent)
    write_results(tidy_table(collect(store, study_tables(store))), path, parquet=True)
    return path


def write_results(frame: pd.DataFrame, path: Path, parquet: bool = False) -> None:
    """Write the frame of all results as CSV; the same frame gives the same bytes.

    parquet: as Parquet beside it too, where pyarrow is installed.
    """
    write_bytes(path, csv_of(frame).encode())
    if parquet and importlib.util.find_spec("pyarrow"):
        replace(path.with_suffix(".parquet"), partial(frame.to_parquet, index=False))


def write_tables(
    summary: StudySummary,
    layouts: Sequence[TableLayout],
    target: Path,
    claims: StatedClaims | None = None,
    findings: Sequence[str] = (),
) -> None:
    """Write `tables/<table>.tex`, `.md` and `.csv`, `tables/all.tex`, `report.json` and `summary.md` in `target`."""
    latex = {"table1": _objectives("tex", summary) + latex_terms(summary)}
    latex |= {layout.result.pivot.table.name: latex_table(layout) for layout in layouts}
    texts = {
        "summary.md": markdown_summary(summary, layouts, claims, findings),
        "tables/all.tex": latex_document(latex),
        "tables/table1.md": (_objectives("md", summary) + markdown_terms(summary)).lstrip(),
    }
    texts |= {f"tables/{name}.tex": text for name, text in latex.items()}
    for layout in layouts:
        texts[f"tables/{layout.result.pivot.table.name}.md"] = markdown_table(layout)
        texts[f"tables/{layout.result.pivot.table.name}.csv"] = table_csv(layout)
    for name, text in texts.items():
        write_bytes(target / name, text.encode())
    write_json(target / "report.json", study_record(summary, layouts) | (claims_record(claims) if claims else {}))


def _objectives(suffix: str, summary: StudySummary) -> str:
    """Return the paper's Table 1; "" for a study that has nothing of the paper."""
    if not summary.beside_paper:
        return ""
    return (TEMPLATES / f"objectives.{suffix}").read_text(encoding="utf-8")


def study_record(summary: StudySummary, layouts: Sequence[TableLayout]) -> dict[str, Any]:
    """Return everything that the report of a study says, as JSON holds it."""
    return {
        "study": summary.study,
        "title": summary.title,
        "scales": [{"name": s.scale, "title": s.title, "meaningful": s.meaningful} for s in summary.scales],
        "summary": summary.sentences,
        "facts": {term: "; ".join(lines) for term, lines in summary.lines.items()},
        "terms": [asdict(term) for term in summary.terms],
        "tables": [table_record(layout) for layout in layouts],
        "readings": [asdict(choice) for choice in summary.setting_choices],
        "fixed_readings": [asdict(choice) for choice in summary.fixed_choices],
    }


def table_record(layout: TableLayout) -> dict[str, Any]:
    """Return one table with its cells, their runs, and what is said beneath it."""
    pivot = layout.result.pivot
    return {
        "name": pivot.table.name,
        "heading": layout.heading,
        "question": pivot.table.file.question,
        "metric": pivot.table.file.value,
        "direction": pivot.metric.direction,
        "caption": layout.caption,
        "footnotes": layout.footnotes,
        "findings": layout.result.findings,
        "paper_says": pivot.table.file.paper_text,
        "claims": pivot.table.file.claim_text,
        "references": [reference.model_dump(exclude_defaults=True) for reference in pivot.table.file.references],
        "protocols": {letter: dict(protocol) for letter, protocol in pivot.protocols.items()},
        "missing": [f"{state}: {sentence}" for state, sentence in layout.missing],
        "cells": [
            _cell_record(cell) | {"facts": _facts(pivot, cell), "runs": [vars(run) for run in cell.runs]}
            for cell in pivot.cells
        ],
    }


def _cell_record(cell: PivotCell) -> dict[str, Any]:
    paper = cell.paper.model_dump(include={"value", "source", "confidence", "note"}) if cell.paper else None
    return {
        "at": dict(cell.source.at),
        "name": cell.name,
        "row": cell.row,
        "column": cell.column,
        "aside": cell.source.aside,
        "baseline": cell.is_baseline,
        "best": cell.is_best,
        "ours": asdict(cell.ours) if cell.ours else None,
        "change": asdict(cell.change) if cell.change else None,
        "paper": paper and paper | {"percent": cell.paper_percent},
        "verdict": cell.verdict,
    }


def _published(pivot: Pivot, cell: PivotCell) -> dict[str, Any]:
    """The figures of others in a cell's row, by protocol."""
    return {
        protocol: figure.model_dump(exclude={"at", "protocol"}, exclude_defaults=True)
        for (at, protocol), figure in pivot.table.file.placed.items()
        if at == cell.source.at
    }


def _facts(pivot: Pivot, cell: PivotCell) -> dict[str, Any]:
    return {
        name: {"ours": fact.words, "paper": fact.paper.model_dump(mode="json") if fact.paper else None}
        for name, fact in zip(pivot.table.file.facts, cell.facts, strict=True)
    }


def table_csv(layout: TableLayout) -> str:
    """Return one table as CSV: a row for each cell, numbers in full precision, empty where there is none."""
    pivot = layout.result.pivot
    axes = [axis for axis in pivot.table.file.axes if any(axis in dict(cell.source.at) for cell in pivot.cells)]
    columns = {axis: f"at.{axis}" for axis in axes} | COLUMNS["values"] | COLUMNS["change"]
    columns |= (COLUMNS["paper"] if pivot.table.beside_paper else {}) | COLUMNS["cell"]
    for name in pivot.table.file.facts:
        columns |= {name: f"facts.{name}.ours", f"paper: {name}": f"facts.{name}.paper.says"}
    for protocol in dict.fromkeys(protocol for _, protocol in pivot.table.file.placed):
        columns |= {f"{protocol}{name}": f"published.{protocol}.{key}" for name, key in COLUMNS["published"].items()}
    blocks = {cell.source.at: row.block for row in pivot.rows for cell in (*row.cells, row.across) if cell}
    columns |= {"block": "block"} if any(blocks.values()) else {}
    records = [
        {**_cell_record(cell), "facts": _facts(pivot, cell), "metric": pivot.table.file.value}
        | {"published": _published(pivot, cell), "block": blocks.get(cell.source.at, "")}
        | {"protocol": " ".join(cell.letters), "without_value": state_words(cell)}
        for cell in pivot.cells
    ]
    return nested_csv(records, columns)


def nested_csv(records: list[dict[str, Any]], columns: Mapping[str, str]) -> str:
    """Return nested records as CSV: each column by its name and its path in a record, empty where there is nothing."""
    frame = pd.json_normalize(records).reindex(columns=list(columns.values())).set_axis(list(columns), axis=1)
    return csv_of(frame.map(lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else value))
