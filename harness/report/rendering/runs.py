"""The runs behind the tables, listed by table, cell and seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.analysis.pivot import Pivot, PivotCell, RunState
from harness.report.analysis.text import anchor, number


@dataclass(frozen=True)
class IndexedRun:
    """One line of the run index; `first` where it is the first of its cell, which the table links to."""

    table: str
    cell: str
    behind: str
    first: bool
    seed: int
    train_id: str
    eval_id: str
    state: str
    value: str


def behind(pivot: Pivot, cell: PivotCell) -> str:
    """Return the name that a cell's runs have in links within the page."""
    place = next(index for index, other in enumerate(pivot.cells) if other.source is cell.source)
    return f"runs-{anchor(pivot.table.name)}-{place}"


def index(pivots: Sequence[Pivot]) -> list[IndexedRun]:
    """List every run of the study, by table, cell and seed."""
    return [
        IndexedRun(
            pivot.table.name_in_words, cell.name, behind(pivot, cell), run is cell.runs[0], run.seed, run.train_id,
            run.eval_id, run.state, run_value(pivot, run),
        )
        for pivot, cell, run in all_runs(pivots)
    ]  # fmt: skip


def all_runs(pivots: Sequence[Pivot]) -> Iterator[tuple[Pivot, PivotCell, RunState]]:
    """Yield every run of the tables with its cell and its table; one that several share comes as often."""
    yield from ((pivot, cell, run) for pivot in pivots for cell in pivot.cells for run in cell.runs)


def run_value(pivot: Pivot, run: RunState) -> str:
    """Return a run's number as its table prints it, with the letter of its protocol where there are several."""
    value = "" if run.value is None else number(run.value, pivot.metric.decimals)
    return f"{value} {run.protocol}" if run.protocol and len(pivot.protocols) > 1 else value
