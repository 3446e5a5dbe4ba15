"""Two studies side by side: the same cells of the same tables, each seed against itself."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from harness.config.grid_file import At
from harness.files import check_no_links, write_bytes
from harness.report.analysis.pivot import Pivot, PivotCell, pivot
from harness.report.analysis.statistics import Change, change_between
from harness.report.analysis.text import MEANINGS, estimate, percent_change
from harness.report.reading.collect import collect
from harness.report.reading.protocol import Protocol
from harness.report.rendering import captions, data_files, html
from harness.store.records import ModelFacts
from harness.store.store import Store
from harness.store.study import study_tables

DifferenceVerdict = Literal[
    "differs", "zero within interval", "too few seeds", "equal", "protocol differs", "without value", "only in one"
]
COMPARED: tuple[DifferenceVerdict, ...] = ("differs", "zero within interval", "too few seeds", "equal")
MOST_REASONS = 3  # that are said at once
VERDICTS: Mapping[DifferenceVerdict, str] = MEANINGS["verdicts of a comparison"]


class Side(NamedTuple):
    """A cell in its table of one of the two studies; encoder: the sha256 of those of an alignment, "" without one."""

    pivot: Pivot
    cell: PivotCell
    encoder: str


@dataclass(frozen=True)
class Difference:
    """One cell in both studies: its values in words, the change from the first to the second, and what that says.

    reason: in what the protocols differ, "" where they do not.
    """

    cell: str
    first: str
    second: str
    change: Change | None
    verdict: DifferenceVerdict
    reason: str = ""

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
    ours, theirs = _tables(first), _tables(second)
    return [_table(ours.get(name, {}), theirs.get(name, {})) for name in dict.fromkeys((*ours, *theirs))]


def _tables(store: Store) -> dict[str, dict[At, Side]]:
    """Return the cells of a study's tables by their places."""
    tables = study_tables(store)
    results = collect(store, tables)
    pivots = {table.name: pivot(table, results) for table in tables}
    return {
        name: {cell.source.at: Side(made, cell, _encoder(store, cell)) for cell in made.cells}
        for name, made in pivots.items()
    }


def _encoder(store: Store, cell: PivotCell) -> str:
    """Return the weights of the frozen encoders that a cell's trainings were aligned with: own ones are each
    machine's."""
    aligned = [run for run in cell.source.runs if run.train.alignment and run.seed in cell.values]
    facts = [ModelFacts.read(store.run_folder(run.train_id)) for run in aligned]
    return ", ".join(sorted({record.encoder.sha256[:12] for record in facts if record and record.encoder}))


def _table(first: Mapping[At, Side], second: Mapping[At, Side]) -> TableDifference:
    shown = next(iter((*first.values(), *second.values()))).pivot
    cells = tuple(_difference(first.get(at), second.get(at)) for at in dict.fromkeys((*first, *second)))
    return TableDifference(shown.table.name, captions.heading(shown.table), shown.metric.title, cells)


def _difference(first: Side | None, second: Side | None) -> Difference:
    named = first or second
    assert named
    apart = _apart(first, second) if first and second else ""
    change, verdict = _compared(first, second, apart) if first and second else (None, "only in one")
    return Difference(named.cell.name, _value(first), _value(second), change, verdict, apart)


def _value(side: Side | None) -> str:
    return estimate(side.cell.ours, side.pivot.metric.decimals) if side and side.cell.ours else ""


def _compared(first: Side, second: Side, apart: str) -> tuple[Change | None, DifferenceVerdict]:
    cell, other = first.cell, second.cell
    if cell.mixed or other.mixed:
        return None, "protocol differs"
    if cell.ours is None or other.ours is None:
        return None, "without value"
    if apart:
        return None, "protocol differs"
    change, common = change_between(other.values, cell.values), cell.values.keys() & other.values.keys()
    if common and all(cell.values[seed] == other.values[seed] for seed in common):
        return change, "equal"
    if change is None or change.p is None:
        return change, "too few seeds"
    return change, "differs" if change.beyond else "zero within interval"


def _apart(first: Side, second: Side) -> str:
    """Say in what two values were not measured or trained alike: "features classifier-… and classifier-…"; else ""."""
    if first.cell.ours is None or second.cell.ours is None:
        return ""
    one, other = _protocol(first), _protocol(second)
    keys = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
    return "; ".join(f"{key.replace('_', ' ')} {one.get(key) or 'none'} and {other.get(key) or 'none'}" for key in keys)


def _protocol(side: Side) -> Protocol:
    """What a cell was measured with, without the keys that only other measurements of its study have."""
    protocol = {key: value for key, value in side.pivot.protocols[side.cell.letters[0]].items() if value}
    encoder = {"encoder": side.encoder} if side.encoder else {}
    return {"value": side.pivot.table.file.value, **protocol, **encoder}


def summary(tables: Sequence[TableDifference]) -> str:
    """Say how many of the cells that both studies have are compared, and why the others are not."""
    cells = [cell for table in tables for cell in table.cells if cell.verdict != "only in one"]
    compared = sum(cell.verdict in COMPARED for cell in cells)
    reasons = Counter(cell.reason or str(cell.verdict) for cell in cells if cell.verdict not in COMPARED)
    words = "; ".join(f"{count} not: {reason}" for reason, count in reasons.most_common(MOST_REASONS))
    more = "; …" if len(reasons) > MOST_REASONS else ""
    return f"{compared} of {len(cells)} cells that both studies have are compared{words and f'; {words}'}{more}"


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
    last = {"verdict": "verdict", "reason": "reason"}
    columns = {name: name for name in names} | data_files.COLUMNS["change"] | last
    write_bytes(target / "differences.csv", data_files.nested_csv(rows, columns).encode())
    values = {
        "first": first.study, "second": second.study, "tables": tables, "counts": counts(tables),
        "differing": list(differing(tables)), "summary": summary(tables),
    }  # fmt: skip
    path = target / "index.html"
    write_bytes(path, html.render(values, "compare.html.j2").encode())
    return path
