"""Tables as pivots of results: ours ± spread, change against our baseline, the paper's value, its change, a verdict."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from statistics import fmean, stdev
from typing import Literal

from harness.config.grid import Cell, Table
from harness.config.grid_file import PaperValue
from harness.metric_definitions import Definition, definition_of
from harness.report.analysis.statistics import Change, change_between, holm
from harness.report.reading.collect import MetricValue, RunResult
from harness.report.reading.protocol import Protocol, mixes
from harness.report.reading.run_facts import Fact, stated

Verdict = Literal[
    "same sign",
    "contradicts",
    "zero within interval",
    "with one seed",
    "protocol differs",
    "without value",
    "unpublished",
]  # what our change and the paper's say together; `claims.VERDICTS` has their meanings


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds; `spread` is the sample standard deviation, None with one seed."""

    mean: float
    spread: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RunState(MetricValue):
    """One seed of a cell: what is known of it. `protocol` is a letter where the table mixes protocols.

    `metrics` are all that its measurement holds, by name, and not only the one that the table shows.
    """

    seed: int
    train_id: str
    eval_id: str
    protocol: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PivotCell:
    """One cell of a printed table.

    `paper` is what the paper prints. A cell has a verdict where it has a baseline, at a scale with a meaning.
    """

    source: Cell
    row: str
    column: str
    name: str
    runs: tuple[RunState, ...]
    paper: PaperValue | None
    facts: tuple[Fact, ...] = ()
    baseline: "PivotCell | None" = None
    change: Change | None = None
    verdict: Verdict | None = None
    is_baseline: bool = False
    is_best: bool = False

    @cached_property
    def ours(self) -> Estimate | None:
        """Our value; None where nothing is measured or its seeds mix protocols."""
        values = list(self.values.values())
        spread = stdev(values) if len(values) > 1 else None
        return Estimate(fmean(values), spread, tuple(self.values)) if len(self.letters) == 1 else None

    @property
    def mean(self) -> float:
        """Its mean over seeds; asked only of a cell that has one."""
        assert self.ours, self.name
        return self.ours.mean

    @property
    def paper_percent(self) -> float | None:
        """The paper's change in percent of the paper's own baseline, where we know that."""
        theirs = self.baseline.paper if self.baseline else None
        return (
            100 * (self.paper.value - theirs.value) / theirs.value if self.paper and theirs and theirs.value else None
        )

    @property
    def no_change(self) -> str:
        """Why a cell with a mean and a baseline has no change; "" where it has one or needs none."""
        if self.change or not self.ours or not self.baseline:
            return ""
        if self.baseline.ours is None:
            return "the baseline has no value"
        return (
            "the baseline is zero" if self.baseline.letters == self.letters else "the baseline was measured otherwise"
        )

    @cached_property
    def values(self) -> dict[int, float]:
        """Its values by seed."""
        return {run.seed: run.value for run in self.runs if run.value is not None}

    @property
    def eval_ids(self) -> str:
        """What tells its measurements from those of other cells."""
        return " ".join(run.eval_id for run in self.runs)

    @property
    def missing(self) -> tuple[RunState, ...]:
        """The runs that give no value."""
        return tuple(run for run in self.runs if run.value is None)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Letters of the protocols its values were measured with."""
        return tuple(sorted({run.protocol for run in self.runs if run.value is not None}))

    @property
    def mixed(self) -> bool:
        """True where its seeds were not measured alike."""
        return len(self.letters) > 1


@dataclass(frozen=True)
class PivotRow:
    """A printed row: a cell or None for each column, or one cell `across` all columns; `block` is its heading."""

    label: str
    cells: tuple[PivotCell | None, ...]
    across: PivotCell | None = None
    block: str = ""


@dataclass(frozen=True)
class Pivot:
    """A table laid out as the paper's. `protocols` are by letter, in the order of how many values each has."""

    table: Table
    metric: Definition
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

    @cached_property
    def mixes(self) -> bool:
        """True where numbers were measured differently though the table does not ask for it."""
        return mixes(self.table, list(self.protocols.values()))

    def shows(self, cell: PivotCell) -> bool:
        """Tell whether figures show a cell: of a table that mixes protocols unasked, those of the most used one."""
        return cell.ours is not None and (not self.mixes or cell.letters[0] == next(iter(self.protocols)))

    @property
    def row_heading(self) -> str:
        """What the labels of rows are made of: the row axis, and the axes that are neither row nor column."""
        shown = (self.table.file.rows, self.table.file.columns)
        axes = dict.fromkeys(axis for cell in self.table.cells for axis, _ in cell.at)
        return " · ".join([self.table.file.rows, *(axis for axis in axes if axis not in shown)])

    def improves(self, percent: float) -> bool:
        """Tell whether a change is for the better."""
        return percent < 0 if self.metric.direction == "lower" else percent > 0

    def ranked(self, cells: Iterable[PivotCell]) -> list[PivotCell]:
        """Return cells that have a mean, the best first."""
        return sorted((cell for cell in cells if cell.ours), key=lambda cell: self.badness(cell.mean))

    def badness(self, value: float) -> float:
        """Return a key that sorts better values first; of a metric without direction, lower ones."""
        return -value if self.metric.direction == "higher" else value


def kind_of(pivot: Pivot, change: Change) -> str:
    """Return "better" or "worse" for a change whose interval excludes zero; "same" for any other.

    One seed has no interval, what prints as zero is no change, and a metric may have no direction.
    """
    if not change.beyond or round(change.percent, 1) == 0 or not pivot.metric.direction:
        return "same"
    return "better" if pivot.improves(change.percent) else "worse"


def fullest_cells(pivots: Sequence[Pivot]) -> dict[str, tuple[Pivot, PivotCell]]:
    """Return for each measurement the cell, and its table, that has most seeds of the arm; the first of equals."""
    fullest: dict[str, tuple[Pivot, PivotCell]] = {}
    for own, cell in ((pivot, cell) for pivot in pivots for cell in pivot.cells if cell.ours):
        for run in cell.runs:
            if run.eval_id not in fullest or len(fullest[run.eval_id][1].values) < len(cell.values):
                fullest[run.eval_id] = own, cell
    return fullest


def pivot(table: Table, results: Sequence[RunResult]) -> Pivot:
    """Lay out one table of the results that `collect` read."""
    own = [result for result in results if result.table.name == table.name]
    protocols, letters = _protocols(own)
    by_place = {at: list(seeds) for at, seeds in groupby(own, key=lambda result: result.cell.at)}
    metric = definition_of(table.file.value)
    cells = _compared(table, [_cell(table, cell, by_place[cell.at], letters) for cell in table.cells])
    rivals = len(protocols) < 2 or any(cell.is_baseline for cell in cells)  # else a best among few would pass for all's
    cells = _best_marked(cells, metric) if table.scale.meaningful and rivals else cells
    columns, rows = _laid_out(table, [cell for cell in cells if not cell.source.aside])
    measurements = [result.status.measurement for result in own if result.status.measurement]
    return Pivot(
        table=table,
        metric=metric,
        columns=columns,
        rows=rows,
        asides=tuple(cell for cell in cells if cell.source.aside),
        cells=tuple(cells),
        protocols=protocols,
        features_notes=tuple(sorted({measurement.protocol.features_note for measurement in measurements} - {""})),
        encoders=tuple(sorted({result.facts.get("encoder", "") for result in own} - {""})),
    )


def _protocols(results: Sequence[RunResult]) -> tuple[dict[str, Protocol], dict[str, str]]:
    """Name each protocol of measured values by a letter, the most used first; and return the letter of each eval_id."""
    measured = [result for result in results if result.shown.value is not None]
    keys = dict.fromkeys(key for result in measured for key in result.protocol)
    if len({result.protocol["code"] for result in measured if result.protocol.get("code")}) < 2:
        keys.pop("code", None)  # what was not recorded is not known to be other
    protocols = [tuple((key, result.protocol.get(key, "")) for key in keys) for result in measured]
    letters = {protocol: _letter(index) for index, (protocol, _) in enumerate(Counter(protocols).most_common())}
    of_runs = {result.run.eval_id: letters[protocol] for result, protocol in zip(measured, protocols, strict=True)}
    return {letter: dict(protocol) for protocol, letter in letters.items()}, of_runs


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"p{index + 1}"


def _run_state(result: RunResult, letters: Mapping[str, str]) -> RunState:
    return RunState(
        **vars(result.shown),
        seed=result.run.seed,
        train_id=result.run.train_id,
        eval_id=result.run.eval_id,
        protocol=letters.get(result.run.eval_id, ""),
        metrics={name: metric.value for name, metric in result.metrics.items() if metric.value is not None},
    )


def _cell(table: Table, cell: Cell, results: Sequence[RunResult], letters: Mapping[str, str]) -> PivotCell:
    return PivotCell(
        source=cell,
        row=_row_label(table, cell),
        column=cell.label(table.file.columns),
        name=cell_name(cell),
        runs=tuple(_run_state(result, letters) for result in results),
        paper=table.paper(cell),
        facts=stated(table.file.facts, {result.run.seed: result.facts for result in results}, table.paper(cell)),
    )


def cell_name(cell: Cell) -> str:
    """Return a short name for a cell: its labels, with the axis before one that says nothing alone ("λ 0.5").

    "none" is left out beside other labels, and is the name of a cell that has no other.
    """
    return " · ".join(label_words(axis, label) for axis, label in _labels(cell) if label != "none") or "none"


def label_words(axis: str, label: str) -> str:
    """Return a label, with its axis before one that says nothing alone, and behind "without"."""
    return f"{axis} {label}" if label[:1].isdigit() or label == "all" else _whole(axis, label)


def _labels(cell: Cell) -> list[tuple[str, str]]:
    """Each axis with its label, which says what it is without where it is "without"."""
    return [(axis, _whole(axis, label)) for axis, label in cell.at]


def _whole(axis: str, label: str) -> str:
    return f"without {axis}" if label == "without" else label


def _row_label(table: Table, cell: Cell) -> str:
    """Return the label on the row axis, followed by those of axes that are neither row nor column."""
    further = [label for axis, label in _labels(cell) if axis not in (table.file.rows, table.file.columns)]
    return " · ".join([cell.label(table.file.rows), *further])


def _compared(table: Table, cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Fill in baselines, changes and verdicts; p of cells that are one run count once among those of the table."""
    by_place = {cell.source.at: cell for cell in cells}
    compared = []
    for cell in cells:
        source = table.baseline(cell.source)
        baseline = by_place[source.at] if source else None
        compared.append(replace(cell, baseline=baseline, change=_change(cell, baseline) if baseline else None))
    serving = {cell.baseline.source.at for cell in compared if cell.baseline}
    adjusted = holm({cell.eval_ids: cell.change.p for cell in compared if cell.change and cell.change.p is not None})
    return [
        replace(
            cell,
            change=replace(cell.change, adjusted=adjusted.get(cell.eval_ids)) if cell.change else None,
            is_baseline=cell.source.at in serving,
            verdict=_verdict(cell, cell.baseline) if cell.baseline and table.scale.meaningful else None,
        )
        for cell in compared
    ]


def _change(cell: PivotCell, baseline: PivotCell) -> Change | None:
    """Return how a cell differs from its baseline; values of different protocols are not compared."""
    return change_between(cell.values, baseline.values) if cell.ours and baseline.letters == cell.letters else None


def _verdict(cell: PivotCell, baseline: PivotCell) -> Verdict:
    if not cell.paper_percent:
        return "unpublished"
    if cell.change is None:
        apart = cell.ours and baseline.ours and cell.letters != baseline.letters
        return "protocol differs" if apart or cell.mixed or baseline.mixed else "without value"
    if cell.change.p is None:
        return "with one seed"
    if not cell.change.beyond:
        return "zero within interval"
    return "same sign" if cell.change.percent * cell.paper_percent > 0 else "contradicts"


def _best_marked(cells: Sequence[PivotCell], metric: Definition) -> list[PivotCell]:
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
    in_row, in_column = Counter(cell.row for cell in cells), Counter(cell.column for cell in cells)
    lone = [cell for cell in cells if in_row[cell.row] == in_column[cell.column] == 1]
    across = {cell.row: cell for cell in lone} if len(columns) > 1 else {}
    inside = tuple(label for label in columns if label not in {cell.column for cell in across.values()})
    at = {(cell.row, cell.column): cell for cell in cells}
    assert len(at) == len(cells), "two cells at one row and column"
    in_order = sorted(cells, key=lambda cell: order.index(cell.source.label(table.file.rows)))
    blocks = {cell.row: table.file.block_of.get(cell.source.label(table.file.rows), "") for cell in in_order}
    return inside, tuple(
        PivotRow(
            row, () if row in across else tuple(at.get((row, column)) for column in inside), across.get(row), block
        )
        for row, block in blocks.items()
    )
