"""Tables as pivots of results: ours ± spread, change against our baseline, the paper's value, its change, a verdict."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from harness.config.grid import Cell, Table
from harness.config.grid_file import At
from harness.metric_definitions import Definition, definition_of
from harness.report.analysis.statistics import Change, change_between, holm
from harness.report.reading.collect import RunResult
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
    """One cell of a printed table.

    `ours` is None where nothing is measured or its seeds mix protocols. `no_change` says why a measured cell has no
    change, "" where it has one or needs none. A cell has a verdict where it has a baseline, at a scale with a meaning.
    """

    source: Cell
    row: str
    column: str
    name: str
    runs: tuple[RunState, ...]
    ours: Estimate | None
    paper: PaperNumber | None
    facts: tuple[Fact, ...] = ()
    change: Change | None = None
    no_change: str = ""
    verdict: Verdict | None = None
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

    @property
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


def pivot(table: Table, results: Sequence[RunResult]) -> Pivot:
    """Lay out one table of the results that `collect` read."""
    own = [result for result in results if result.table.name == table.name]
    protocols, letters = _protocols(own)
    by_place: dict[At, list[RunResult]] = {}
    for result in own:
        by_place.setdefault(result.cell.at, []).append(result)
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
        encoders=tuple(sorted({result.facts.encoder for result in own} - {""})),
    )


def _protocols(results: Sequence[RunResult]) -> tuple[dict[str, Protocol], dict[str, str]]:
    """Name each protocol of measured values by a letter, the most used first; and return the letter of each eval_id."""
    measured = [result for result in results if result.shown.value is not None]
    keys = dict.fromkeys(key for result in measured for key in result.protocol)
    protocols = [tuple((key, result.protocol.get(key, "")) for key in keys) for result in measured]
    letters = {protocol: _letter(index) for index, (protocol, _) in enumerate(Counter(protocols).most_common())}
    of_runs = {result.run.eval_id: letters[protocol] for result, protocol in zip(measured, protocols, strict=True)}
    return {letter: dict(protocol) for protocol, letter in letters.items()}, of_runs


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"p{index + 1}"


def _run_state(result: RunResult, letters: Mapping[str, str]) -> RunState:
    shown = result.shown
    return RunState(
        seed=result.run.seed,
        train_id=result.run.train_id,
        eval_id=result.run.eval_id,
        state=shown.state,
        reason=shown.reason,
        value=shown.value,
        protocol=letters.get(result.run.eval_id, ""),
        metrics=result.numbers,
    )


def _cell(table: Table, cell: Cell, results: Sequence[RunResult], letters: Mapping[str, str]) -> PivotCell:
    runs = tuple(_run_state(result, letters) for result in results)
    values = {run.seed: run.value for run in runs if run.value is not None}
    alike = len({run.protocol for run in runs if run.value is not None}) == 1
    return PivotCell(
        source=cell,
        row=_row_label(table, cell),
        column=cell.label(table.file.columns),
        name=cell_name(cell),
        runs=runs,
        ours=_estimate(values) if alike else None,
        paper=_paper(table, cell),
        facts=stated(table.file.facts, {result.run.seed: result.facts for result in results}, table.paper(cell)),
    )


def cell_name(cell: Cell) -> str:
    """Return a short name for a cell: its labels, with the axis before one that says nothing alone ("λ 0.5").

    "none" is left out beside other labels, and is the name of a cell that has no other.
    """
    labels = [(axis, _label(axis, label)) for axis, label in cell.at if label != "none"]
    names = [f"{axis} {label}" if label[:1].isdigit() or label == "all" else label for axis, label in labels]
    return " · ".join(names) or "none"


def _label(axis: str, label: str) -> str:
    """ "without" says what it is without; every other label stands for itself."""
    return f"without {axis}" if label == "without" else label


def _row_label(table: Table, cell: Cell) -> str:
    """Return the label on the row axis, followed by those of axes that are neither row nor column."""
    further = [_label(axis, label) for axis, label in cell.at if axis not in (table.file.rows, table.file.columns)]
    return " · ".join([cell.label(table.file.rows), *further])


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
    """Fill in the changes and verdicts; values of different protocols are not compared."""
    by_place = {cell.source.at: cell for cell in cells}
    sources = {cell.source.at: table.baseline(cell.source) for cell in cells}
    serving = {source.at for source in sources.values() if source}
    compared = []
    for cell in cells:
        source = sources[cell.source.at]
        changed = _against(cell, by_place[source.at], table.scale.meaningful) if source else cell
        compared.append(replace(changed, is_baseline=cell.source.at in serving))
    return _with_holm(compared)


def _against(cell: PivotCell, baseline: PivotCell, meaningful: bool) -> PivotCell:
    """Compare a cell with its baseline, and the change with the paper's."""
    alike = cell.ours is not None and baseline.letters == cell.letters
    change = change_between(cell.values, baseline.values) if alike else None
    reason = "" if change or not cell.ours else _no_change(cell, baseline)
    verdict = _verdict(cell, baseline, change) if meaningful else None
    return replace(cell, change=change, no_change=reason, verdict=verdict)


def _no_change(cell: PivotCell, baseline: PivotCell) -> str:
    if baseline.ours is None:
        return "the baseline has no value"
    return "the baseline was measured otherwise" if baseline.letters != cell.letters else "the baseline is zero"


def _verdict(cell: PivotCell, baseline: PivotCell, change: Change | None) -> Verdict:
    if cell.paper is None or not cell.paper.percent:
        return "unpublished"
    if change is None:
        both = cell.ours is not None and baseline.ours is not None and cell.letters != baseline.letters
        return "protocol differs" if both or cell.mixed or baseline.mixed else "without value"
    if change.p is None:
        return "with one seed"
    if not change.beyond:
        return "zero within interval"
    return "same sign" if change.percent * cell.paper.percent > 0 else "contradicts"


def _with_holm(cells: Sequence[PivotCell]) -> list[PivotCell]:
    """Adjust each p for the other changes of the table; cells that are one run are one change."""
    adjusted = holm({_measurements(cell): cell.change.p for cell in cells if cell.change and cell.change.p is not None})
    return [
        replace(cell, change=replace(cell.change, adjusted=adjusted.get(_measurements(cell)))) if cell.change else cell
        for cell in cells
    ]


def _measurements(cell: PivotCell) -> str:
    return " ".join(run.eval_id for run in cell.runs)


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
    across = {cell.row: cell for cell in cells if len(columns) > 1 and _is_lone(cell, cells)}
    inside = tuple(label for label in columns if label not in {cell.column for cell in across.values()})
    at = {(cell.row, cell.column): cell for cell in cells}
    assert len(at) == len(cells), "two cells at one row and column"
    in_order = sorted(cells, key=lambda cell: order.index(cell.source.label(table.file.rows)))
    rows = dict.fromkeys(cell.row for cell in in_order)
    return inside, tuple(
        PivotRow(row, () if row in across else tuple(at.get((row, column)) for column in inside), across.get(row))
        for row in rows
    )


def _is_lone(cell: PivotCell, cells: Sequence[PivotCell]) -> bool:
    return not any((other.row == cell.row or other.column == cell.column) and other is not cell for other in cells)
