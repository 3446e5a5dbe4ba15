"""The report: one self-contained HTML file for each study, the same bytes whenever it is made from the same results."""

from collections.abc import Mapping, Sequence
from functools import partial
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
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyles
from harness.report.figures.sweeps import guidance_picture, surface_picture
from harness.report.reading.collect import RunStatuses, collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering import captions, data_files, html, sections, sheet, trainings
from harness.report.rendering.plugin_sections import plugin_sections
from harness.report.rendering.study_summary import study_summary
from harness.report.rivals.rival_section import rival_sections, rivals_answer, rivals_record
from harness.report.second_process import beside
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
    left_out = {path.stem for path in store.grid_paths()} - {table.name for table in tables}
    summary = study_summary(store.study, pivots, sorted(map(escape_controls, left_out)))
    logs.read(run.train_id for pivot in pivots for cell in pivot.cells for run in cell.runs)
    described = beside(partial(_describe, statuses, pivots, logs, target))
    styles = ArmStyles()
    tables_shown = [sections.table_section(store, layout, shared, logs, styles) for layout in layouts]
    swept = [(sweep, guidance_picture(sweep, styles)) for sweep in guidance_sweep.sweeps(pivots)]
    responses = [(surface, surface_picture(surface, styles)) for surface in surfaces.surfaces(pivots)]
    probed, rivals = sections.representations(store, pivots), rival_sections(store, pivots, styles)
    first = answer(pivots)
    if rivals and len(pivots) == 1:
        first = rivals_answer(first, rivals[0])
    claims = stated_claims.stated_claims(store, pivots, logs)
    first = stated_claims.claims_answer(first, claims)
    pictures = [figure for table in tables_shown for figure in (*table.figures, *table.folded)]
    pictures += [picture for _, picture in (*swept, *responses)]
    pictures += [section.cost for section in rivals if section.cost]
    pictures += [probed.picture] if probed and probed.picture else []
    half = len(pictures) // 2
    drawn = beside(partial(_draw, pictures[:half], target, pdf))
    data_files.write_results(tidy_table(results), target / "results.csv")
    data_files.write_tables(
        summary, layouts, target, claims, [sentence for section in rivals for sentence in section.findings]
    )
    if probed:
        write_json(target / "representations.json", probed.record)
    if rivals:
        write_json(target / "rivals.json", rivals_record(rivals))
    values = {
        "summary": summary,
        "answer": first,
        "forest": forest(first),
        "claims": claims,
        "first_samples": first_samples(store, first.headline) if first.headline else None,
        "shared": captions.in_one(shared.values()),
        "tables": tables_shown,
        "guidance": swept,
        "surfaces": responses,
        "rankings": early_ranking.early_rankings(store, pivots, logs),
        "rivals": rivals,
        "representations": probed,
        "plugin_sections": plugin_sections(pivots),
        "pivots": pivots,
        "options": _metrics(pivots),
        "seeds": sorted({run.seed for pivot in pivots for cell in pivot.cells for run in cell.runs}),
        "quantiles": [round(t_quantile(degrees), 6) for degrees in range(1, 30)],
        "runs": [run for pivot in pivots for cell in pivot.cells for run in cell.runs],
        "confidence": CONFIDENCE,
        "sources": SOURCES,
        "live": False,
        **html.script_of(*SCRIPTS),
    }
    _draw(pictures[half:], target, pdf)
    for picture, svg in zip(pictures[:half], drawn(), strict=True):
        vars(picture)["svg"] = svg  # where the property keeps it
    articles, places = described()
    return values | {"articles": articles, "places": places}


def _metrics(pivots: Sequence[Pivot]) -> dict[str, Definition]:
    """Return the metrics that runs have, those that tables show first."""
    shown = [pivot.table.file.value for pivot in pivots]
    stored = [name for pivot in pivots for cell in pivot.cells for run in cell.runs for name in run.metrics]
    return {name: definition_of(name) for name in dict.fromkeys([*shown, *stored])}


def _describe(
    statuses: RunStatuses, pivots: Sequence[Pivot], logs: Logs, target: Path
) -> tuple[list[str], Mapping[str, str]]:
    """Write the pages of trainings; return what the report itself says of each, and where each is described."""
    pages = trainings.paginate(statuses.store.study, trainings.training_articles(statuses, pivots, logs))
    pages.write(target)
    return pages.articles(), pages.places


def _draw(pictures: Sequence[Picture], target: Path, pdf: bool) -> list[str]:
    """Write figures beside the page, and return them as the page shows them."""
    for picture in pictures:
        picture.write(target, pdf)
    return [picture.svg for picture in pictures]
