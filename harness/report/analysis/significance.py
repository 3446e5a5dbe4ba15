"""What tells each change of a table from chance: its interval, its tests, and what pairing the seeds is worth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.analysis.changes import Change
from harness.report.analysis.claims import Verdict, verdicts_by_place
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.statistics import smallest_flip_p
from harness.report.analysis.text import counted, interval_words, listed, p_words, signed_percent


@dataclass(frozen=True)
class Tested:
    """One change in words: how many seeds, the change, its interval, its three p, the width of pairing, the verdict."""

    cell: PivotCell
    seeds: str
    change: str
    interval: str
    p: str
    adjusted: str
    flip_p: str
    narrowing: str
    verdict: Verdict | None


@dataclass(frozen=True)
class Significance:
    """The tests of one table, and what must be said of them."""

    rows: tuple[Tested, ...]
    sentences: tuple[str, ...]


def significance(pivot: Pivot) -> Significance | None:
    """Return the tests of a table; None where no change has an interval, or the scale means nothing."""
    verdicts = verdicts_by_place(pivot)
    changed = [(cell, cell.change) for cell in pivot.cells if cell.change and cell.change.p is not None]
    if not changed or not pivot.table.scale.meaningful:
        return None
    rows = tuple(_tested(cell, change, verdicts.get(cell.source.at)) for cell, change in changed)
    return Significance(rows, tuple(_sentences([change for _, change in changed])))


def _tested(cell: PivotCell, change: Change, verdict: Verdict | None) -> Tested:
    return Tested(
        cell=cell,
        seeds=str(len(change.seeds)) if change.paired else "unpaired",
        change=signed_percent(change.percent),
        interval=interval_words(change.interval) if change.interval else "",
        p=_p(change.p),
        adjusted=_p(change.adjusted),
        flip_p=_p(change.flip_p),
        narrowing="" if change.narrowing is None else f"{change.narrowing:.2f}",
        verdict=verdict,
    )


def _p(value: float | None) -> str:
    return "" if value is None else p_words(value)


def _sentences(changes: Sequence[Change]) -> Iterable[str]:
    yield (
        f"p is of Student’s t, the change over its standard error by seeds; Holm’s p is corrected for the "
        f"{counted(len(changes), 'change')} of this table, and claims rest on these two."
    )
    if counts := sorted({len(change.seeds) for change in changes if change.flip_p is not None}):
        smallest = listed([f"{p_words(smallest_flip_p(n))} with {n} seeds" for n in counts])
        yield (
            f"The sign-flip test assumes no more than that differences are spread alike on both sides of zero; it "
            f"cannot give less than {smallest}, so it is shown and decides nothing."
        )
