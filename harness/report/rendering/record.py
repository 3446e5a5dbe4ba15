"""A study as plain data: `report.json` with everything that the page says, and one CSV for each table."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.report.analysis.changes import change_record
from harness.report.analysis.claims import summary_sentences, verdicts_by_place
from harness.report.analysis.findings import findings
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import missing_list, state_words
from harness.report.rendering.our_choices import fixed_readings, readings
from harness.report.rendering.sheet import sheet
from harness.report.rendering.spreadsheet import shown_as_text
from harness.report.rendering.study_summary import facts, heading, scales


def study_record(study: str, pivots: Sequence[Pivot]) -> dict[str, Any]:
    """Return everything that the report of a study says, as JSON holds it."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    return {
        "study": study,
        "scales": [{"name": s.scale, "title": s.title, "meaningful": s.meaningful} for s in scales_of(pivots)],
        "summary": summary_sentences(pivots),
        "facts": {fact.term: fact.words for fact in facts(pivots)},
        "tables": [table_record(pivot) for pivot in pivots],
        "readings": [asdict(reading) for reading in readings(runs)],
        "fixed_readings": [asdict(reading) for reading in fixed_readings(runs)],
    }


def scales_of(pivots: Sequence[Pivot]) -> Sequence[Any]:
    """Return the scales of the tables."""
    return scales([pivot.table for pivot in pivots])


def table_record(pivot: Pivot) -> dict[str, Any]:
    """Return one table with its cells, their runs, and what is said beneath it."""
    verdicts = verdicts_by_place(pivot)
    words = sheet(pivot)
    return {
        "name": pivot.table.name,
        "heading": heading(pivot.table),
        "question": pivot.table.file.question,
        "metric": pivot.table.file.value,
        "direction": pivot.metric.direction,
        "caption": words.caption,
        "footnotes": list(words.footnotes),
        "findings": findings(pivot),
        "paper_says": pivot.table.file.paper_text,
        "protocols": {letter: dict(protocol) for letter, protocol in pivot.protocols.items()},
        "missing": [f"{state}: {sentence}" for state, sentence in missing_list(pivot)],
        "cells": [_cell_record(pivot, cell, verdicts.get(cell.source.at)) for cell in pivot.cells],
    }


def _cell_record(pivot: Pivot, cell: PivotCell, verdict: str | None) -> dict[str, Any]:
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
        "paper": asdict(cell.paper) if cell.paper else None,
        "verdict": verdict,
        "facts": {name: _fact_record(fact) for name, fact in zip(pivot.table.file.facts, cell.facts, strict=True)},
        "runs": [{**vars(run)} for run in cell.runs],
    }


def _fact_record(fact: Any) -> dict[str, Any]:
    return {"ours": fact.words, "paper": fact.paper.model_dump(mode="json") if fact.paper else None}


def table_csv(pivot: Pivot) -> str:
    """Return one table as CSV: a row for each cell, numbers in full precision, empty where there is none."""
    verdicts = verdicts_by_place(pivot)
    records = [_flat(pivot, cell, verdicts.get(cell.source.at)) for cell in pivot.cells]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: shown_as_text(value) for name, value in record.items()} for record in records)
    return buffer.getvalue()


def _flat(pivot: Pivot, cell: PivotCell, verdict: str | None) -> Mapping[str, Any]:
    ours, paper = cell.ours, cell.paper
    place = dict(cell.source.at)
    axes = [axis for axis in pivot.table.file.axes if any(axis in dict(other.source.at) for other in pivot.cells)]
    return {
        **{axis: place.get(axis, "") for axis in axes},
        "metric": pivot.table.file.value,
        "mean": ours.mean if ours else None,
        "standard_deviation": ours.spread if ours else None,
        "seeds": " ".join(map(str, ours.seeds)) if ours else "",
        **change_record(cell.change),
        "paper": paper.value if paper else None,
        "paper_change_percent": paper.percent if paper else None,
        "paper_source": paper.source if paper else "",
        "paper_confidence": paper.confidence if paper else "",
        "verdict": verdict or "",
        "baseline": cell.is_baseline,
        "best": cell.is_best,
        "protocol": " ".join(cell.letters),
        "without_value": state_words(cell) if cell.missing else "",
        **dict(_flat_facts(pivot, cell)),
    }


def _flat_facts(pivot: Pivot, cell: PivotCell) -> Iterator[tuple[str, str]]:
    for name, fact in zip(pivot.table.file.facts, cell.facts, strict=True):
        yield name, fact.words
        yield f"paper: {name}", fact.paper.says if fact.paper else ""
