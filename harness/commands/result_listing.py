"""A study's tables in the terminal, at the end of a run: our values, their change, and the paper's."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.commands.terminal import Listing, show
from harness.config.grid import Table
from harness.errors import UserError
from harness.jobs.job import Job
from harness.jobs.local_pool import OnChange
from harness.store.status import RunStatus
from harness.store.store import Store
from harness.store.study import study_tables

if TYPE_CHECKING:
    from harness.report.analysis.pivot import Pivot, PivotCell

MEANINGLESS = "; a scale at which numbers mean nothing: they show that all runs"


def show_tables(store: Store, wanted: Sequence[Table]) -> None:
    """Print some tables, with all that the study has of them: a line for each cell, with the mean and spread of its n
    seeds."""
    from harness.report.analysis.pivot import pivot
    from harness.report.reading.collect import collect

    names = {table.name for table in wanted}
    tables = [table for table in study_tables(store) if table.name in names]
    results = collect(store, tables)
    show(*(_listing(pivot(table, results)) for table in tables))


class SeedBySeed:
    """Hears of jobs' starts (None) and ends, tells another, and shows the tables when all jobs of a seed have ended.

    But for the last seed: the end of the run shows them anyway. It is called from several threads.
    """

    def __init__(self, jobs: Iterable[Job], show: Callable[[], None], on_change: OnChange) -> None:
        self.left, self.show, self.on_change = Counter(job.train.seed for job in jobs), show, on_change
        self.lock = threading.Lock()

    def __call__(self, job: Job, outcome: RunStatus | None) -> None:
        """Hear of a job."""
        self.on_change(job, outcome)
        if outcome is None:
            return
        with self.lock, suppress(UserError, OSError):  # what cannot be shown is told at the end, and stops no job
            self.left[job.train.seed] -= 1
            if not self.left[job.train.seed] and any(self.left.values()):
                self.show()


def _listing(table: "Pivot") -> Listing:
    about = f"{table.table.name_in_words}, study at scale {table.table.scale.scale}, {table.metric.heading}"
    about += "" if table.table.scale.meaningful else MEANINGLESS
    rows = [_row(table, cell) for cell in table.cells]
    return Listing(about, rows, {"cell": 24, "ours": 12, "change": 12}, ("table", "its change"))


def _row(table: "Pivot", cell: "PivotCell") -> dict[str, str]:
    from harness.report.analysis import text

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
