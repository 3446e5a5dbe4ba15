"""From a study's folders to one typed record for each table × cell × seed, and nothing is ever dropped."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.config.grid import Cell, Run, Table
from harness.report.reading.protocol import Protocol, sampling_protocol
from harness.report.reading.run_facts import RunFacts, run_facts
from harness.store.store import Store

Scalar = str | int | float | bool | None


class Thumbnails(BaseModel):
    """How many tiles the picture beside a measurement holds."""

    rows: int
    columns: int


class MeasuredWith(BaseModel):
    """What a number was measured with; further keys are read and compared as well."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    features: str
    features_note: str = ""
    generated: int
    reference: str
    reference_count: int


class Measurement(BaseModel):
    """The part of `evals/<eval_id>.json` that is read."""

    train_id: str
    eval_id: str
    metrics: dict[str, Any]
    unavailable: dict[str, str] = {}
    protocol: MeasuredWith
    nfe: int
    thumbnails: Thumbnails | None = None

    @property
    def measured_with(self) -> dict[str, Scalar]:
        """The network evaluations of an image and the protocol, without the note on the features."""
        return {"nfe": self.nfe, **self.protocol.model_dump(exclude={"features_note"})}


@dataclass(frozen=True)
class Outcome:
    """What a run's folder says: a state of `Store.status` or "unreadable", and the measurement where there is one."""

    state: str
    reason: str = ""
    measurement: Measurement | None = None


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
    outcome: Outcome
    facts: RunFacts

    @cached_property
    def metrics(self) -> Mapping[str, MetricValue]:
        """Every metric of its measurement, that of the table first; without a measurement that of the table alone."""
        measurement, shown = self.outcome.measurement, self.table.file.value
        if measurement is None:
            return {shown: MetricValue(None, self.outcome.state, self.outcome.reason)}
        return {name: _metric_value(measurement, name) for name in dict.fromkeys((shown, *measurement.metrics))}

    @property
    def shown(self) -> MetricValue:
        """The metric that the table shows."""
        return self.metrics[self.table.file.value]

    @property
    def numbers(self) -> dict[str, float]:
        """All metrics that have a value."""
        return {name: metric.value for name, metric in self.metrics.items() if metric.value is not None}

    @cached_property
    def measured_with(self) -> dict[str, Scalar]:
        """What `Measurement.measured_with` says beyond the settings; empty without a measurement."""
        measurement, settings = self.outcome.measurement, sampling_protocol(self.run)
        if measurement is None:
            return {}
        return {key: value for key, value in measurement.measured_with.items() if key not in settings}

    @cached_property
    def protocol(self) -> Protocol:
        """How its numbers were drawn and measured, in words; how its run was trained is another matter."""
        settings = sampling_protocol(self.run) | self.measured_with
        return {key: "" if value is None else str(value) for key, value in settings.items()}


def collect(store: Store, tables: Sequence[Table], outcomes: "Outcomes | None" = None) -> list[RunResult]:
    """Return one record for each table × cell × seed, in that order; what cannot be read says so in its state."""
    known = outcomes or Outcomes(store)
    return [
        RunResult(table, cell, run, known.of(run), _facts(store, table, run, known.of(run)))
        for table in tables
        for cell in table.cells
        for run in cell.runs
    ]


def _facts(store: Store, table: Table, run: Run, outcome: Outcome) -> RunFacts:
    if outcome.measurement is None or not table.file.facts:
        return RunFacts({}, "")
    return run_facts(table.file.facts, run, store.run_folder(run.train_id), outcome.measurement.nfe)


class Outcomes:
    """What is known of a study's runs, each read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[str, Outcome] = {}

    def of(self, run: Run) -> Outcome:
        """Return what is known of a run."""
        if run.eval_id not in self.read:
            self.read[run.eval_id] = read_outcome(self.store, run)
        return self.read[run.eval_id]


def read_outcome(store: Store, run: Run) -> Outcome:
    """Read what is known of a run; a broken file is told as the state "unreadable", never raised."""
    with suppress(OSError, ValidationError):  # whatever is wrong with it is told below
        content = store.eval_path(run.train_id, run.eval_id).read_bytes()
        return _checked(Measurement.model_validate_json(content), run)
    try:
        status = store.status(run.train_id, run.eval_id)
        if status.state == "done":
            content = store.eval_path(run.train_id, run.eval_id).read_bytes()
            return _checked(Measurement.model_validate_json(content), run)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return Outcome("unreadable", f"evals/{run.eval_id}.json: {where}{': ' if where else ''}{first['msg']}")
    except OSError as error:
        return Outcome("unreadable", f"{Path(str(error.filename)).name}: {error.strerror}")
    reason = " ".join(str(status.reason).split())
    if status.state == "running":
        reason = f"{status.phase}, step {status.step} of {status.total}"
    return Outcome(status.state, reason)


def _checked(measurement: Measurement, run: Run) -> Outcome:
    """Refuse a file that lies in the wrong folder or under the wrong name."""
    if (measurement.train_id, measurement.eval_id) != (run.train_id, run.eval_id):
        whose = f"{measurement.eval_id} of {measurement.train_id}"
        return Outcome("unreadable", f"evals/{run.eval_id}.json holds another measurement: {whose}")
    return Outcome("done", "", measurement)


def _metric_value(measurement: Measurement, name: str) -> MetricValue:
    value = measurement.metrics.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return MetricValue(float(value))
    reason = f"{name} is {value!r}"
    if name not in measurement.metrics:
        unavailable = measurement.unavailable.get(name)
        reason = f"it holds no {name}{f': {unavailable}' if unavailable else ''}"
    return MetricValue(None, "unreadable", f"evals/{measurement.eval_id}.json: {reason}")
