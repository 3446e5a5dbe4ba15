"""Two studies side by side: the same cells of the same tables, each seed against itself."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.files import check_no_links, write_bytes
from harness.report.analysis.pivot import Pivot, PivotCell, pivot
from harness.report.analysis.statistics import Change, change_between
from harness.report.analysis.text import MEANINGS, estimate, percent_change
from harness.report.reading.collect import collect
from harness.report.reading.protocol import Protocol
from harness.report.rendering import captions, data_files, html
from harness.store.store import Store
from harness.store.study import study_tables

DifferenceVerdict = Literal[
    "differs", "zero within interval", "too few seeds", "equal", "protocol differs", "without value", "only in one"
]
Side = tuple[Pivot, PivotCell]  # a cell in its table of one of the two studies
VERDICTS: Mapping[DifferenceVerdict, str] = MEANINGS["verdicts of a comparison"]


@dataclass(frozen=True)
class Difference:
    """One cell in both studies: its values in words, the change from the first to the second, and what that says."""

    cell: str
    first: str
    second: str
    change: Change | None
    verdict: DifferenceVerdict

    @property
    def change_words(self) -> str:
        """Return "+3.1 % [+2.2, +4.0]", "" where nothing is compared."""
        return percent_change(self.change) if self.change else ""


@dataclass(frozen=True)
class TableDifference:
    """The cells of one table; `name` is of its grid file."""

    name: str
    heading: str
    metric: str
    cells: tuple[Difference, ...]


def compare(first: Store, second: Store) -> list[TableDifference]:
    """Compare every cell that two studies hold, by table and by the cell's labels.

    Raises:
        UserError: one of them is no study, or a grid file of it cannot be read any more.
    """
    ours, theirs = _pivots(first), _pivots(second)
    return [_table(ours.get(name), theirs.get(name)) for name in dict.fromkeys((*ours, *theirs))]


def _pivots(store: Store) -> dict[str, Pivot]:
    tables = study_tables(store)
    results = collect(store, tables)
    return {table.name: pivot(table, results) for table in tables}


def _table(first: Pivot | None, second: Pivot | None) -> TableDifference:
    shown = first or second
    assert shown
    sides = [{cell.source.at: (side, cell) for cell in side.cells} if side else {} for side in (first, second)]
    places = dict.fromkeys((*sides[0], *sides[1]))
    cells = tuple(_difference(sides[0].get(at), sides[1].get(at)) for at in places)
    return TableDifference(shown.table.name, captions.heading(shown.table), shown.metric.title, cells)


def _difference(first: Side | None, second: Side | None) -> Difference:
    named = first or second
    assert named
    change, verdict = _compared(first, second) if first and second else (None, "only in one")
    return Difference(named[1].name, _value(first), _value(second), change, verdict)


def _value(side: Side | None) -> str:
    return estimate(side[1].ours, side[0].metric.decimals) if side and side[1].ours else ""


def _compared(first: Side, second: Side) -> tuple[Change | None, DifferenceVerdict]:
    (pivot, cell), (other_pivot, other) = first, second
    if cell.mixed or other.mixed:
        return None, "protocol differs"
    if cell.ours is None or other.ours is None:
        return None, "without value"
    if pivot.table.file.value != other_pivot.table.file.value or _protocol(first) != _protocol(second):
        return None, "protocol differs"
    change, common = change_between(other.values, cell.values), cell.values.keys() & other.values.keys()
    if common and all(cell.values[seed] == other.values[seed] for seed in common):
        return change, "equal"
    if change is None or change.p is None:
        return change, "too few seeds"
    return change, "differs" if change.beyond else "zero within interval"


def _protocol(side: Side) -> Protocol:
    """What a cell was measured with, without the keys that only other measurements of its study have."""
    pivot, cell = side
    return {key: value for key, value in pivot.protocols[cell.letters[0]].items() if value}


def differing(tables: Sequence[TableDifference]) -> Iterator[tuple[TableDifference, Difference]]:
    """Yield the cells whose difference is beyond its interval."""
    yield from ((table, cell) for table in tables for cell in table.cells if cell.verdict == "differs")


def counts(tables: Sequence[TableDifference]) -> dict[DifferenceVerdict, int]:
    """Return how many cells have each verdict, those that none has left out."""
    verdicts = Counter(cell.verdict for table in tables for cell in table.cells)
    return {verdict: verdicts[verdict] for verdict in VERDICTS if verdicts[verdict]}


def write_comparison(first: Store, second: Store, tables: Sequence[TableDifference], target: Path) -> Path:
    """Write `target/index.html` and `target/differences.csv` and return the path of the former.

    Raises:
        UserError: a folder to be written in is a link.
    """
    check_no_links(target)
    rows = [{"table": table.name} | asdict(cell) for table in tables for cell in table.cells]
    names = ("table", "cell", "first", "second")
    columns = {name: name for name in names} | data_files.COLUMNS["change"] | {"verdict": "verdict"}
    write_bytes(target / "differences.csv", data_files.nested_csv(rows, columns).encode())
    values = {
        "first": first.study, "second": second.study, "tables": tables, "counts": counts(tables),
        "differing": list(differing(tables)),
    }  # fmt: skip
    path = target / "index.html"
    write_bytes(path, html.render(values, "compare.html.j2").encode())
    return path
