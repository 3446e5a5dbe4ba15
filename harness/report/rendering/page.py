"""The report: one self-contained HTML file for each study, the same bytes whenever it is made from the same results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.grid import Table
from harness.config.grid_file import CONFIDENCE, SOURCES
from harness.files import gc_paused, write_bytes, write_json
from harness.report.analysis import claims
from harness.report.analysis import text as words
from harness.report.analysis.table_result import TableResult, table_result
from harness.report.figures.by_size import gain_picture
from harness.report.figures.lengths import length_chart
from harness.report.figures.sample_pairs import sample_strips
from harness.report.figures.table_figure import Picture
from harness.report.figures.table_figure import picture as table_picture
from harness.report.reading.collect import RunStatuses, collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering import study_summary as study
from harness.report.rendering import trainings as runs
from harness.report.rendering.data_files import write_results, write_takeaway
from harness.report.rendering.html import render, script_of
from harness.report.rendering.our_choices import fixed_choices, setting_choices
from harness.report.rendering.sections import analyses, more_pictures, representations
from harness.report.rendering.trainings import TrainingPages, paginate, trainings
from harness.store.store import Store
from harness.store.study import study_tables
from harness.store.training_log import Logs


def report(store: Store, reports: Path, pdf: bool = False) -> Path:
    """Make the report of a study from what the study's folder holds, and return its path; pdf: of figures as well.

    Raises:
        UserError: there is no such study, or one of its grid files cannot be read any more.
    """
    return make_report(store, study_tables(store), reports / store.study, pdf)


@gc_paused()
def make_report(store: Store, tables: Sequence[Table], target: Path, pdf: bool = False) -> Path:
    """Write `target/index.html` with `results.csv` and the files of `write_takeaway` beside it; return its path.

    pdf: write each figure as PDF too.
    """
    path = target / "index.html"
    write_bytes(path, render(write_files(store, tables, target, pdf)).encode())
    return path


def write_files(store: Store, tables: Sequence[Table], target: Path, pdf: bool = False) -> dict[str, Any]:
    """Write everything that stands beside the page, and return everything that the page's template prints."""
    statuses, logs = RunStatuses(store), Logs(store)
    collected = collect(store, tables, statuses)
    write_results(tidy_table(collected), target / "results.csv")
    results = [table_result(table, collected) for table in tables]
    write_takeaway(store.study, results, target)
    pages = paginate(store.study, trainings(statuses, [result.pivot for result in results], logs))
    pages.write(target)
    values = content(store, results, pages, logs)
    if values["representations"]:
        write_json(target / "representations.json", values["representations"].record)
    for picture in pictures(values):
        picture.write(target, pdf)
    return values


def pictures(values: Mapping[str, Any]) -> Iterator[Picture]:
    """Yield every figure of the page."""
    for table in values["tables"]:
        charts = [table["lengths"], *table["more"]]
        found = [table["picture"], table["gain"], *(chart.picture for chart in charts if chart)]
        yield from (picture for picture in found if picture)
    yield from (picture for _, picture in (*values["guidance"], *values["surfaces"]))
    if values["representations"] and values["representations"].picture:
        yield values["representations"].picture


def content(store: Store, results: Sequence[TableResult], pages: TrainingPages, logs: Logs) -> dict[str, Any]:
    """Gather everything that the page's template prints."""
    pivots = [result.pivot for result in results]
    asked = [run for pivot in pivots for run in pivot.table.runs]
    return {
        "study": store.study,
        "scales": study.scales([pivot.table for pivot in pivots]),
        "facts": study.facts(pivots),
        **analyses(store, pivots, logs),
        "representations": representations(store, pivots),
        "tables": [_shown(store, result, logs) for result in results],
        "readings": setting_choices(asked),
        "fixed_readings": fixed_choices(asked),
        "summary": claims.summary_sentences(pivots),
        "verdicts": claims.VERDICTS,
        "verdicts_used": claims.verdicts_used(pivots),
        "index": runs.index(pivots),
        "articles": list(pages.articles()),
        "places": pages.places,
        "states": words.STATES,
        "confidence": CONFIDENCE,
        "sources": SOURCES,
        "runs": runs,
        "live": False,
        "words": words,
        **script_of("theme.js", "runs.js"),
    }  # fmt: skip


def _shown(store: Store, result: TableResult, logs: Logs) -> dict[str, Any]:
    """Gather what the page prints of one table."""
    pivot = result.pivot
    return {
        "result": result, "pivot": pivot,
        "heading": study.heading(pivot.table), "short_heading": pivot.table.name_in_words,
        "picture": table_picture(pivot), "gain": gain_picture(pivot), "lengths": length_chart(pivot),
        "strips": sample_strips(store, pivot), "more": more_pictures(store, pivot, logs),
        "command": study.command(store, pivot.table),
    }  # fmt: skip
