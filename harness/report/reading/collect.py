"""From a study's folders to one typed record for each table × cell × seed, and nothing is ever dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.config.grid import Cell, Run, Table
from harness.report.reading.protocol import Protocol, sampling_protocol
from harness.report.reading.run_facts import RunFacts, run_facts
from harness.store.records import Measurement, Scalar
from harness.store.status import RunStatus, run_result, spec_fault
from harness.store.store import Store


@dataclass(frozen=True)
class MetricValue:
    """One metric of one run; where there is no value, `state` and `reason` say why."""

    value: float | None
    state: str = "done"
    reason: str = ""


@dataclass(frozen=True)
class RunResult:
    """One seed of one cell of a table: what was asked, and what its folder says."""

    table: Table
    cell: Cell
    run: Run
    status: RunStatus
    facts: RunFacts

    @cached_property
    def metrics(self) -> Mapping[str, MetricValue]:
        """Every metric of its measurement, that of the table first; without a measurement that of the table alone."""
        measurement, shown = self.status.measurement, self.table.file.value
        if measurement is None:
            return {shown: MetricValue(None, self.status.state, self.status.words)}
        return {name: _metric_value(measurement, name) for name in dict.fromkeys((shown, *measurement.metrics))}

    @property
    def shown(self) -> MetricValue:
        """The metric that the table shows."""
        return self.metrics[self.table.file.value]

    @cached_property
    def measured_with(self) -> dict[str, Scalar]:
        """How its numbers are drawn by its settings, then measured by its file; how it was trained is no part of it."""
        settings, measurement = sampling_protocol(self.run), self.status.measurement
        return settings | (measurement.measured_with if measurement else {}) | settings

    @cached_property
    def protocol(self) -> Protocol:
        """The same in words."""
        return {key: "" if value is None else str(value) for key, value in self.measured_with.items()}


def collect(store: Store, tables: Sequence[Table], statuses: "RunStatuses | None" = None) -> list[RunResult]:
    """Return one record for each table × cell × seed, in that order; what cannot be read says so in its state."""
    statuses, results = statuses or RunStatuses(store), []
    for table in tables:
        for cell in table.cells:
            for run in cell.runs:
                status = statuses.of(run)
                facts = run_facts(store, table.file.facts, run, status.measurement)
                results.append(RunResult(table, cell, run, status, facts))
    return results


class RunStatuses:
    """How a study's runs stand and what was measured of them, each read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._results: dict[tuple[str, str], RunStatus] = {}
        self._faults: dict[str, str] = {}

    def of(self, run: Run) -> RunStatus:
        """Return how a run stands, with its measurement where that is done."""
        name = run.train_id, run.eval_id
        if name not in self._results:
            self._results[name] = run_result(self.store, run, self._fault)
        return self._results[name]

    def _fault(self, store: Store, run: Run) -> str:
        if run.train_id not in self._faults:
            self._faults[run.train_id] = spec_fault(store, run)
        return self._faults[run.train_id]


def _metric_value(measurement: Measurement, name: str) -> MetricValue:
    value, reason = measurement.number(name)
    if value is not None:
        return MetricValue(value)
    return MetricValue(None, "unreadable", f"evals/{measurement.eval_id}.json: {reason}")
