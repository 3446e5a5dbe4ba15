"""Tables as pivots of the tidy frame: ours ± spread, change against our baseline, the paper's value and its change."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from harness.config.grid import Cell, Table
from harness.config.grid_file import place_words
from harness.report.analysis.changes import Change, change_between
from harness.report.analysis.labels import cell_name, row_label
from harness.report.analysis.statistics import holm
from harness.report.reading.collect import Metric, metric_named, protocol_columns
from harness.report.reading.protocol import Protocol, mixes
from harness.report.reading.run_facts import ENCODER, Fact, stated

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds; `spread` is the sample standard deviation, None with one seed."""

    mean: float
    spread: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PaperNumber:
    """The paper's value, and its change in percent of the paper's own baseline where we know that."""

    value: float
    percent: float | None
    source: str
    confidence: str
    note: str


@dataclass(frozen=True)
class RunState:
    """One seed of a cell: what is known of it. `protocol` is a letter where the table mixes protocols.

    `metrics` are all that its measurement holds, by name, and not only the one that the table shows.
    """

    seed: int
    train_id: str
    eval_id: str
    state: str
    reason: str
    value: float | None
    protocol: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PivotCell:
    """One cell of a printed table. `ours` is None where nothing is measured or its seeds mix protocols."""

    source: Cell
    row: str
    column: str
    name: str
    runs: tuple[RunState, ...]
    ours: Estimate | None
    paper: PaperNumber | None
    facts: tuple[Fact, ...] = ()
    change: Change | None = None
    is_baseline: bool = False
    is_best: bool = False

    @property
    def mean(self) -> float:
        """Its mean over seeds; asked only of a cell that has one."""
        assert self.ours, self.name
        return self.ours.mean

    @property
    def values(self) -> dict[int, float]:
        """Its values by seed."""
        return {run.seed: run.value for run in self.runs if run.value is not None}

    @property
    def missing(self) -> tuple[RunState, ...]:
        """The runs that give no value."""
        return tuple(run for run in self.runs if run.value is None)

    @property
    def letters(self) -> tuple[str, ...]:
        """Letters of the protocols its values were measured with."""
        return tuple(sorted({run.protocol for run in self.runs if run.value is not None}))

    @property
    def mixed(self) -> bool:
        """True where its seeds were not measured alike."""
        return len(self.letters) > 1


@dataclass(frozen=True)
class PivotRow:
    """A printed row: a cell or None for each column, or one cell `across` all columns."""

    label: str
    cells: tuple[PivotCell | None, ...]
    across: PivotCell | None = None


@dataclass(frozen=True)
class Pivot:
    """A table laid out as the paper's. `protocols` are by letter, in the order of how many values each has."""

    table: Table
    metric: Metric
    columns: tuple[str, ...]
    rows: tuple[PivotRow, ...]
    asides: tuple[PivotCell, ...]
    cells: tuple[PivotCell, ...]
    protocols: Mapping[str, Protocol]
    features_notes: tuple[str, ...]
    encoders: tuple[str, ...]

    @property
    def baselines(self) -> tuple[PivotCell, ...]:
        """The cells against which changes are taken."""
        return tuple(cell for cell in self.cells if cell.is_baseline)

    @property
    def mixes(self) -> bool:
        """True where numbers were measured differently though the table does not ask for it."""
        return mixes(self.table, list(self.protocols.values()))


def pivot(table: Table, frame: "pd.DataFrame") -> Pivot:
    """Lay out one table of the frame that `collect` made."""
    mine = frame[(frame["table"] == table.name) & (frame["metric"] == table.file.value)]
    records: list[dict[str, Any]] = mine.to_dict("records")  # type: ignore[assignment]
    protocols = _protocols(records, protocol_columns(frame))
    _attach_metrics(records, frame[frame["table"] == table.name])
    by_cell: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_cell.setdefault(record["cell"], []).append(record)
    metric = metric_named(table.file.value)
    cells = _compared(table, [_cell(table, cell, by_cell[place_words(cell.at)], protocols) for cell in table.cells])
    rivals = len(protocols) < 2 or any(cell.is_baseline for cell in cells)  # else a best among few would pass for all's
    cells = _best_marked(cells, metric) if table.scale.meaningful and rivals else cells
    columns, rows = _laid_out(table, [cell for cell in cells if not cell.source.aside])
    notes = sorted({record["features_note"] for record in records} - {""})
    letters = {letter: protocol for protocol, letter in protocols.items()}
    asides = tuple(cell for cell in cells if cell.source.aside)
    encoders = tuple(sorted({record.get(ENCODER, "") for record in records} - {""}))
    return Pivot(table, metric, columns, rows, asides, tuple(cells), letters, tuple(notes), encoders)


def _protocols(records: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[Protocol, str]:
    """Name each protocol of the measured values by a letter, the most used first."""
    for record in records:
        record["_protocol"] = tuple((name, str(record[name])) for name in columns)
    counted = Counter(record["_protocol"] for record in records if not math.isnan(record["value"]))
    return {protocol: _letter(index) for index, (protocol, _) in enumerate(counted.most_common())}


def _attach_metrics(records: Sequence[dict[str, Any]], frame: "pd.DataFrame") -> None:
    """Give each record all numbers of its measurement."""
    found: dict[str, dict[str, float]] = {}
    for identity, metric, value in frame[["eval_id", "metric", "value"]].itertuples(index=False):
        if not math.isnan(value):
            found.setdefault(identity, {})[metric] = value
    for record in records:
        record["_metrics"] = found.get(record["eval_id"], {})


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"p{index + 1}"


def _run_state(record: dict[str, Any], protocols: Mapping[Protocol, str]) -> RunState:
    value = None if math.isnan(record["value"]) else float(record["value"])
    return RunState(
        seed=int(record["seed"]),
        train_id=record["train_id"],
        eval_id=record["eval_id"],
        state=record["state"],
        reason=record["reason"],
        value=value,
        protocol="" if value is None else protocols[record["_protocol"]],
        metrics=record["_metrics"],
    )


def _cell(table: Table, cell: Cell, records: Sequence[dict[str, Any]], protocols: Mapping[Protocol, str]) -> PivotCell:
    runs = tuple(_run_state(record, protocols) for record in records)
    known = [run for run in runs if run.value is not None]
    alike = len({run.protocol for run in known}) == 1
    return PivotCell(
        source=cell,
        row=row_label(table, cell),
        column=cell.label(table.file.columns),
        name=cell_name(cell),
        runs=runs,
        ours=_estimate({run.seed: run.value for run in known if run.value is not None}) if alike else None,
        paper=_paper(table, cell),
        facts=stated(table.file.facts, records, table.paper(cell)),
    )


def _estimate(values: Mapping[int, float]) -> Estimate:
    numbers = list(values.values())
    return Estimate(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, tuple(values))


def _paper(table: Table, cell: Cell) -> PaperNumber | None:
    own = table.paper(cell)
    if own is None:
        return None
    baseline = table.baseline(cell)
    other = table.paper(baseline) if baseline else None
    percent = 100 * (own.value - other.value) / other.value if other and other.value else None
    return PaperNumber(own.value, percent, own.source, own.confidence, own.note)


def _compared(table: Table, cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Fill in the changes; values of different protocols are not compared."""
    by_place = {cell.source.at: cell for cell in cells}
    baselines = {cell.source.at: table.baseline(cell.source) for cell in cells}
    serving = {baseline.at for baseline in baselines.values() if baseline}
    compared = []
    for cell in cells:
        baseline = baselines[cell.source.at]
        other = by_place[baseline.at] if baseline else None
        alike = other is not None and cell.ours is not None and other.letters == cell.letters
        change = change_between(cell.values, other.values) if other and alike else None
        compared.append(replace(cell, change=change, is_baseline=cell.source.at in serving))
    return _with_holm(compared)


def _with_holm(cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Adjust each p for the other changes of the table; cells that are one run are one change."""
    adjusted = holm({_measurements(cell): cell.change.p for cell in cells if cell.change and cell.change.p is not None})
    return [
        replace(cell, change=replace(cell.change, adjusted=adjusted.get(_measurements(cell)))) if cell.change else cell
        for cell in cells
    ]


def _measurements(cell: PivotCell) -> str:
    return " ".join(run.eval_id for run in cell.runs)


def _best_marked(cells: Sequence[PivotCell], metric: Metric) -> list[PivotCell]:
    """Mark the best mean among those measured alike, where at least two are."""
    alike: dict[tuple[str, ...], list[float]] = {}
    for cell in cells:
        if cell.ours:
            alike.setdefault(cell.letters, []).append(cell.ours.mean)
    pick = {"lower": min, "higher": max}.get(metric.direction)
    best = {letters: pick(means) for letters, means in alike.items() if pick and len(means) > 1}
    return [replace(cell, is_best=bool(cell.ours and best.get(cell.letters) == cell.ours.mean)) for cell in cells]


def _laid_out(table: Table, cells: Sequence[PivotCell]) -> tuple[tuple[str, ...], tuple[PivotRow, ...]]:
    """Make rows and columns; a cell alone in its row and in its column goes across, as the paper prints a baseline."""
    order, columns = table.labels(table.file.rows), table.labels(table.file.columns)
    lone = [cell for cell in cells if len(columns) > 1 and _is_lone(cell, cells)]
    across = {cell.row: cell for cell in lone}
    kept = tuple(label for label in columns if label not in {cell.column for cell in lone})
    inside = {(cell.row, cell.column): cell for cell in cells}
    assert len(inside) == len(cells), "two cells at one row and column"
    in_order = sorted(cells, key=lambda cell: order.index(cell.source.label(table.file.rows)))
    return kept, tuple(
        PivotRow(row, (), across[row]) if row in across else PivotRow(row, tuple(inside.get((row, c)) for c in kept))
        for row in dict.fromkeys(cell.row for cell in in_order)
    )


def _is_lone(cell: PivotCell, cells: Sequence[PivotCell]) -> bool:
    return not any((other.row == cell.row or other.column == cell.column) and other is not cell for other in cells)
