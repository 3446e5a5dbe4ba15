"""The report: one self-contained HTML file for each study, the same bytes whenever it is made from the same results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config.grid import Table
from harness.config.grid_file import CONFIDENCE, SOURCES
from harness.files import check_no_links, gc_paused, write_bytes, write_json
from harness.metric_definitions import Definition, definition_of
from harness.plain_text import escape_controls
from harness.report.analysis import early_ranking, guidance_sweep, stated_claims, surfaces
from harness.report.analysis.answer import answer
from harness.report.analysis.pivot import Pivot, fullest_cells, pivot
from harness.report.analysis.statistics import t_quantile
from harness.report.analysis.table_result import TableResult
from harness.report.figures.first_samples import first_samples
from harness.report.figures.forest import forest
from harness.report.figures.style import ArmStyles
from harness.report.figures.sweeps import guidance_picture, surface_picture
from harness.report.reading.collect import RunStatuses, collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering import captions, data_files, html, sections, sheet, trainings
from harness.report.rendering.plugin_sections import plugin_sections
from harness.report.rendering.study_summary import study_summary
from harness.report.rivals.rival_section import rival_sections, rivals_record
from harness.store.store import Logs, Store
from harness.store.study import study_tables

SCRIPTS = (
    "theme.js",
    "contents.js",
    "tables.js",
    "runs.js",
    "compare.js",
    "panel.js",
    "forest.js",
    "metrics.js",
    "marks.js",
)


def report(store: Store, reports: Path, pdf: bool = False) -> Path:
    """Make the report of a study from what the study's folder holds, and return its path; pdf: of figures as well.

    Raises:
        UserError: there is no such study, or one of its grid files cannot be read any more.
    """
    return make_report(store, study_tables(store), reports / store.study, pdf)


@gc_paused()
def make_report(store: Store, tables: Sequence[Table], target: Path, pdf: bool = False) -> Path:
    """Write `target/index.html` with everything that stands beside it; return its path. pdf: of figures as well."""
    path = target / "index.html"
    write_bytes(path, html.render(write_files(store, tables, target, pdf)).encode())
    return path


def write_files(store: Store, tables: Sequence[Table], target: Path, pdf: bool = False) -> dict[str, Any]:
    """Write everything that stands beside the page, and return everything that the page's template prints.

    Raises:
        UserError: a folder to be written in is a link.
    """
    check_no_links(target)
    statuses, logs = RunStatuses(store), Logs(store)
    results = collect(store, tables, statuses)
    pivots = [pivot(table, results) for table in tables]
    fullest = fullest_cells(pivots)
    layouts = [sheet.table_layout(TableResult(pivot), fullest) for pivot in pivots]
    shared = captions.shared_parts([layout.sentences for layout in layouts])
    first = answer(pivots)
    left_out = {path.stem for path in store.grid_paths()} - {table.name for table in tables}
    summary = study_summary(store.study, pivots, sorted(map(escape_controls, left_out)))
    styles = ArmStyles()
    pages = trainings.paginate(store.study, trainings.training_articles(statuses, pivots, logs))
    data_files.write_results(tidy_table(results), target / "results.csv")
    claims = stated_claims.stated_claims(store, pivots, logs)
    data_files.write_tables(summary, layouts, target, claims)
    pages.write(target)
    values = {
        "summary": summary,
        "answer": first,
        "forest": forest(first),
        "claims": claims,
        "first_samples": first_samples(store, first.headline) if first.headline else None,
        "shared": captions.in_one(shared.values()),
        "tables": [sections.table_section(store, layout, shared, logs, styles) for layout in layouts],
        "guidance": [(sweep, guidance_picture(sweep, styles)) for sweep in guidance_sweep.sweeps(pivots)],
        "surfaces": [(surface, surface_picture(surface, styles)) for surface in surfaces.surfaces(pivots)],
        "rankings": early_ranking.early_rankings(store, pivots, logs),
        "rivals": rival_sections(store, pivots, styles),
        "representations": sections.representations(store, pivots),
        "plugin_sections": plugin_sections(pivots),
        "pivots": pivots,
        "options": _metrics(pivots),
        "seeds": sorted({run.seed for pivot in pivots for cell in pivot.cells for run in cell.runs}),
        "quantiles": [round(t_quantile(degrees), 6) for degrees in range(1, 30)],
        "runs": [run for pivot in pivots for cell in pivot.cells for run in cell.runs],
        "articles": pages.articles(),
        "places": pages.places,
        "confidence": CONFIDENCE,
        "sources": SOURCES,
        "live": False,
        **html.script_of(*SCRIPTS),
    }
    _write_figures(values, target, pdf)
    return values


def _metrics(pivots: Sequence[Pivot]) -> dict[str, Definition]:
    """Return the metrics that runs have, those that tables show first."""
    shown = [pivot.table.file.value for pivot in pivots]
    stored = [name for pivot in pivots for cell in pivot.cells for run in cell.runs for name in run.metrics]
    return {name: definition_of(name) for name in dict.fromkeys([*shown, *stored])}


def _write_figures(values: dict[str, Any], target: Path, pdf: bool) -> None:
    """Write every figure of the page, and the numbers behind the section on representations."""
    pictures = [figure for table in values["tables"] for figure in (*table.figures, *table.folded)]
    pictures += [picture for _, picture in (*values["guidance"], *values["surfaces"])]
    if values["rivals"]:
        write_json(target / "rivals.json", rivals_record(values["rivals"]))
        pictures += [section.cost for section in values["rivals"] if section.cost]
    if section := values["representations"]:
        write_json(target / "representations.json", section.record)
        pictures += [section.picture] if section.picture else []
    for picture in pictures:
        picture.write(target, pdf)
