"""A study's tables in the terminal, at the end of a run: our values, their change, and the paper's."""

from collections.abc import Iterable

from harness.commands.terminal import Listing, show
from harness.report.analysis import text
from harness.report.analysis.pivot import Pivot, PivotCell, pivot
from harness.report.reading.collect import collect
from harness.store.store import Store
from harness.store.study import study_tables

MEANINGLESS = "; a scale at which numbers mean nothing: they show that all runs"


def show_results(store: Store, names: Iterable[str]) -> None:
    """Print the tables of these names: a line for each cell, with the mean and spread of its n seeds."""
    tables = [table for table in study_tables(store) if table.name in set(names)]
    results = collect(store, tables)
    show(*(_listing(pivot(table, results)) for table in tables))


def _listing(table: Pivot) -> Listing:
    about = f"{table.table.name_in_words}, study at scale {table.table.scale.scale}, {table.metric.heading}"
    about += "" if table.table.scale.meaningful else MEANINGLESS
    rows = [_row(table, cell) for cell in table.cells]
    return Listing(about, rows, {"cell": 24, "ours": 12, "change": 12}, ("table", "its change"))


def _row(table: Pivot, cell: PivotCell) -> dict[str, str]:
    decimals, change = table.metric.decimals, cell.change
    word = ("better" if table.improves(change.percent) else "worse") if change and change.beyond else ""
    ours = text.estimate(cell.ours, decimals) if cell.ours else text.state_words(cell) if cell.missing else "mixed"
    return {
        "table": table.table.name,
        "cell": cell.name,
        "n": str(len(cell.ours.seeds)) if cell.ours else "",
        "ours": ours,
        "change": f"{text.percent_change(change)} {word}".strip() if change else "",
        "paper": text.number(cell.paper.value, decimals) if cell.paper else "",
        "its change": "" if cell.paper_percent is None else text.signed_percent(cell.paper_percent),
    }
