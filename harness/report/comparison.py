"""Two studies side by side: the same cells of the same tables, each seed against itself."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.files import write_bytes
from harness.report.analysis.pivot import Pivot, PivotCell, pivot
from harness.report.analysis.statistics import Change, change_between
from harness.report.analysis.text import estimate, percent_change
from harness.report.reading.collect import collect
from harness.report.reading.protocol import Protocol
from harness.report.rendering.captions import heading
from harness.report.rendering.data_files import change_record, shown_as_text
from harness.report.rendering.html import render
from harness.store.store import Store
from harness.store.study import study_tables

Verdict = Literal[
    "differs", "zero within interval", "too few seeds", "equal", "protocol differs", "without value", "only in one"
]
VERDICTS: Mapping[Verdict, str] = {
    "differs": "the 95% interval of the difference excludes zero",
    "zero within interval": "the 95% interval of the difference contains zero, and so says neither",
    "too few seeds": "the values differ, and fewer than two common seeds leave nothing to tell that from chance",
    "equal": "every common seed has the same value in both",
    "protocol differs": "the two were not measured alike, and are not compared",
    "without value": "one of the two has no value",
    "only in one": "the other study has no such cell",
}


@dataclass(frozen=True)
class Difference:
    """One cell in both studies: its values in words, the change from the first to the second, and what that says."""

    cell: str
    first: str
    second: str
    change: Change | None
    verdict: Verdict

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
    cells = [{cell.source.at: cell for cell in side.cells} if side else {} for side in (first, second)]
    places = dict.fromkeys((*cells[0], *cells[1]))
    found = tuple(_difference(first, second, cells[0].get(at), cells[1].get(at)) for at in places)
    return TableDifference(shown.table.name, heading(shown.table), shown.metric.title, found)


def _difference(
    first: Pivot | None, second: Pivot | None, one: PivotCell | None, other: PivotCell | None
) -> Difference:
    named = one or other
    assert named
    words = (_value(first, one), _value(second, other))
    if first is None or second is None or one is None or other is None:
        return Difference(named.name, *words, None, "only in one")
    if one.mixed or other.mixed:
        return Difference(named.name, *words, None, "protocol differs")
    if one.ours is None or other.ours is None:
        return Difference(named.name, *words, None, "without value")
    if first.table.file.value != second.table.file.value or _protocol(first, one) != _protocol(second, other):
        return Difference(named.name, *words, None, "protocol differs")
    change = change_between(other.values, one.values)
    return Difference(named.name, *words, change, _verdict(one, other, change))


def _value(side: Pivot | None, cell: PivotCell | None) -> str:
    return estimate(cell.ours, side.metric.decimals) if side and cell and cell.ours else ""


def _protocol(side: Pivot, cell: PivotCell) -> Protocol:
    """What a cell was measured with, without the keys that only other measurements of its study have."""
    return {key: value for key, value in side.protocols[cell.letters[0]].items() if value}


def _verdict(one: PivotCell, other: PivotCell, change: Change | None) -> Verdict:
    common = one.values.keys() & other.values.keys()
    if common and all(one.values[seed] == other.values[seed] for seed in common):
        return "equal"
    if change is None or change.p is None:
        return "too few seeds"
    return "differs" if change.beyond else "zero within interval"


def differing(tables: Sequence[TableDifference]) -> Iterator[tuple[TableDifference, Difference]]:
    """Yield the cells whose difference is beyond its interval."""
    yield from ((table, cell) for table in tables for cell in table.cells if cell.verdict == "differs")


def counts(tables: Sequence[TableDifference]) -> dict[Verdict, int]:
    """Return how many cells have each verdict, those that none has left out."""
    found = Counter(cell.verdict for table in tables for cell in table.cells)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def write_comparison(first: Store, second: Store, tables: Sequence[TableDifference], target: Path) -> Path:
    """Write `target/index.html` and `target/differences.csv` and return the path of the former."""
    write_bytes(target / "differences.csv", _csv(tables).encode())
    values = {
        "first": first.study, "second": second.study, "tables": tables, "counts": counts(tables),
        "differing": list(differing(tables)), "verdicts": VERDICTS,
    }  # fmt: skip
    path = target / "index.html"
    write_bytes(path, render(values, "compare.html.j2").encode())
    return path


def _csv(tables: Sequence[TableDifference]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "cell", "first", "second", *change_record(None), "verdict"])
    for table in tables:
        for cell in table.cells:
            numbers = change_record(cell.change).values()
            row = [table.name, cell.cell, cell.first, cell.second, *numbers, cell.verdict]
            writer.writerow(map(shown_as_text, row))
    return buffer.getvalue()
