"""A forest plot as the page lays it out: each change with its interval and the paper's, as shares of the axis."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from harness.report.analysis.answer import StudyAnswer
from harness.report.analysis.pivot import Pivot, PivotCell, kind_of
from harness.report.analysis.statistics import Change
from harness.report.analysis.text import in_words, interval_words, number, signed, signed_percent

PAD, TICKS = 0.04, 5  # of the axis, beyond what is drawn; about how many numbers stand on it
LEAST = 0.3  # of the largest change, that the axis shows on either side of zero: both ends have a name


@dataclass(frozen=True)
class ForestRow:
    """One arm: places along the axis in percent of its length, from the left.

    low, high: of the interval, cut at the frame; None with one seed. paper: None where the change is not known to us.
    """

    cell: PivotCell
    label: str
    kind: str
    words: str
    place: float
    low: float | None
    high: float | None
    paper: float | None
    title: str


@dataclass(frozen=True)
class ForestGroup:
    """Arms of one table beneath a heading."""

    pivot: Pivot
    heading: str
    rows: Sequence[ForestRow]


@dataclass(frozen=True)
class Forest:
    """All changes on one axis: its ticks with their places, where zero is, and which end is better."""

    groups: Sequence[ForestGroup]
    ticks: Sequence[tuple[str, float]]
    zero: float
    ends: tuple[str, str]
    paper: bool


def forest(answer: StudyAnswer) -> Forest | None:
    """Lay out the changes of the first screen; None where there are none."""
    groups = [(pivot, pivot.table.name_in_words, cells) for pivot, cells in answer.groups]
    return forest_of(groups) if groups else None


def forest_of(arms: Sequence[tuple[Pivot, str, Sequence[PivotCell]]]) -> Forest:
    """Lay out the changes of cells, each table's or some of them beneath a heading."""
    axis = _Axis([(pivot, cells) for pivot, _, cells in arms])
    groups = [ForestGroup(pivot, heading, [_row(axis, pivot, c) for c in cells]) for pivot, heading, cells in arms]
    directions = {pivot.metric.direction for pivot, _, _ in arms}
    ends = {"lower": ("← better", "worse →"), "higher": ("← worse", "better →")}.get(
        directions.pop() if len(directions) == 1 else "", ("← lower", "higher →")
    )
    paper = any(row.paper is not None for group in groups for row in group.rows)
    return Forest(groups, list(axis.ticks()), axis.place(0), ends, paper)


class _Axis:
    """The range of what is drawn, zero within it; intervals that say nothing do not widen it."""

    def __init__(self, groups: Iterable[tuple[Pivot, Sequence[PivotCell]]]) -> None:
        values = [0.0, *(value for _, cells in groups for cell in cells for value in _drawn(cell))]
        room = LEAST * (max(map(abs, values)) or 1.0)
        low, high = min(-room, *values), max(room, *values)
        pad = PAD * (high - low)
        self.low, self.high = low - pad, high + pad

    def place(self, percent: float) -> float:
        share = (percent - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def ticks(self) -> Iterator[tuple[str, float]]:
        for tick in MaxNLocator(TICKS).tick_values(self.low, self.high):
            if self.low < tick < self.high:
                yield signed(tick, 0 if tick == round(tick) else 1) if tick else "0", self.place(tick)


def _drawn(cell: PivotCell) -> Iterator[float]:
    assert cell.change
    yield cell.change.percent
    if cell.paper_percent is not None:
        yield cell.paper_percent
    if cell.change.interval and not cell.change.silent:
        yield from (cell.change.interval.low, cell.change.interval.high)


def _row(axis: _Axis, pivot: Pivot, cell: PivotCell) -> ForestRow:
    change, paper = cell.change, cell.paper_percent
    assert change
    interval = change.interval
    return ForestRow(
        cell=cell,
        label=_label(pivot, cell),
        kind=kind_of(pivot, change),
        words=_words(change),
        place=axis.place(change.percent),
        low=axis.place(interval.low) if interval else None,
        high=axis.place(interval.high) if interval else None,
        paper=None if paper is None else axis.place(paper),
        title=_title(pivot, cell, change),
    )


def _label(pivot: Pivot, cell: PivotCell) -> str:
    """The cell's name without what all changes of its table share."""
    others = [set(other.name.split(" · ")) for other in pivot.cells if other.change]
    shared = set.intersection(*others) if len(others) > 1 else set()
    kind = {"dispersive"} if cell.source.settings.regularizer.kind == "dispersive" else set()
    return " · ".join(part for part in cell.name.split(" · ") if part not in shared | kind) or cell.name


def _words(change: Change) -> str:
    """Return "27 [15, 40]" with the sign, or what stands for an interval."""
    decimals = 0 if abs(change.percent) >= 10 else 1
    percent = number(change.percent, decimals)
    signed = percent if percent.startswith("−") or not change.percent else f"+{percent}"
    wide = change.interval is not None and change.interval.high - change.interval.low >= 20
    if change.silent:
        return f"{signed} ({in_words(len(change.seeds))} seeds cannot tell)"
    return (
        f"{signed} {interval_words(change.interval, 0 if wide else decimals)}"
        if change.interval
        else f"{signed} (one seed)"
    )


def _title(pivot: Pivot, cell: PivotCell, change: Change) -> str:
    decimals = pivot.metric.decimals
    value = f", {pivot.metric.title} {number(cell.mean, decimals)}" if cell.ours else ""
    paper = f"; paper {signed_percent(cell.paper_percent)}" if cell.paper_percent is not None else ""
    seeds = f"{in_words(len(change.seeds))} seed{'s' * (len(change.seeds) > 1)}"
    return f"{pivot.table.name_in_words}, {cell.name}{value}: {_words(change)} %, {seeds}{paper}"
