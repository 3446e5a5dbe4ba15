"""From folders to one tidy table: a row for each table × cell × seed × metric, and nothing is ever dropped."""

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.config.grid import Cell, Run, Table
from harness.config.grid_file import place_words
from harness.config.settings import SamplerSettings
from harness.config.spec import TrainSpec
from harness.metric_definitions import DEFINITIONS, base, title_of
from harness.report.reading.protocol import SAMPLING_COLUMNS, TRAINING_COLUMNS, training_protocol
from harness.report.reading.run_facts import PREFIX, fact_columns
from harness.store.store import Store

Direction = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Metric:
    """How a metric is printed: its title, which direction is better ("" for neither), and its decimals."""

    title: str
    direction: Direction
    decimals: int


METRICS = {name: Metric(said.title, said.direction, said.decimals) for name, said in DEFINITIONS.items()}

IDENTITY_COLUMNS = ("table", "cell", "row", "column", "aside", "model", "epochs", "step", "seed", "train_id", "eval_id")
RESULT_COLUMNS = ("state", "reason", "metric", "value", "direction", "protocol", "features_note")
COLUMNS = IDENTITY_COLUMNS + RESULT_COLUMNS
SETTING_COLUMNS = (*SAMPLING_COLUMNS, "labels", "weights", *TRAINING_COLUMNS)
MEASURED_COLUMNS = ("nfe", "features", "generated", "reference", "reference_count")

OWN_COLUMNS = ("metric", "value", "direction", "state", "reason")  # of a row; a run's rows share all others

Scalar = str | int | float | bool | None
Shared = dict[str, Any]
Result = tuple[str, float, Direction, str, str]


class Thumbnails(BaseModel):
    """How many tiles the picture beside a measurement holds."""

    rows: int
    columns: int


class Protocol(BaseModel):
    """What a number was measured with; further keys are kept and compared as well."""

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
    protocol: Protocol
    nfe: int
    thumbnails: Thumbnails | None = None


def metric_named(name: str) -> Metric:
    """Return how a metric is printed; one that is not in `METRICS` has its own name and no direction."""
    if name in METRICS:
        return METRICS[name]
    return replace_fields(METRICS.get(base(name), Metric(name, "", 4)), title=title_of(name))


def collect(store: Store, tables: Sequence[Table], outcomes: "Outcomes | None" = None) -> pd.DataFrame:
    """Return one row for each table × cell × seed × metric.

    A run that is not done gives one row: the table's metric, no value, its state and the reason.
    """
    known = outcomes or Outcomes(store)
    asked = [(table, cell, run) for table in tables for cell in table.cells for run in cell.runs]
    return _frame([_rows(store, table, cell, run, known.of(run)) for table, cell, run in asked])


@dataclass(frozen=True)
class Outcome:
    """What a run's folder says: a state of `Store.status` or "unreadable", and the measurement where there is one."""

    state: str
    reason: str = ""
    measurement: Measurement | None = None


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


def _rows(store: Store, table: Table, cell: Cell, run: Run, outcome: Outcome) -> tuple[Shared, list[Result]]:
    """Return what the rows of a run share, and each row's own."""
    identity = _identity(table, cell, run)
    measurement, wanted = outcome.measurement, table.file.value
    if measurement is None:
        return identity, [_result(wanted, None, outcome.state, outcome.reason)]
    measured = {**measurement.protocol.model_dump(), "nfe": measurement.nfe}
    measured |= fact_columns(table.file.facts, run, store.run_folder(run.train_id), measurement.nfe)
    identity = measured | identity | {"features_note": measurement.protocol.features_note}
    identity["protocol"] = _short(identity)
    results = []
    for metric, value in ({wanted: None} | measurement.metrics).items():
        if _is_number(value):
            results.append(_result(metric, float(value), "done", ""))
        else:
            why = measurement.unavailable.get(metric)
            none = f"it holds no {metric}" + (f": {why}" if why else "")
            said = f"{metric} is {value!r}" if metric in measurement.metrics else none
            results.append(_result(metric, None, "unreadable", f"evals/{run.eval_id}.json: {said}"))
    return identity, results


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _identity(table: Table, cell: Cell, run: Run) -> dict[str, Any]:
    sampler, evaluation = run.evaluation.sampler, run.evaluation.evaluation
    return {
        "table": table.name,
        "cell": place_words(cell.at),
        "row": cell.label(table.file.rows),
        "column": cell.label(table.file.columns),
        "aside": cell.aside,
        "model": cell.settings.model,
        "epochs": cell.settings.epochs,
        "step": run.evaluation.step,
        "seed": run.seed,
        "train_id": run.train_id,
        "eval_id": run.eval_id,
        "protocol": "",
        "features_note": "",
        "sampler": sampler.method,
        "intervals": sampler.intervals,
        "guidance": sampler.guidance,
        "guidance_channels": sampler.guidance_channels,
        "guidance_interval": _guidance_interval(sampler),
        "sampling_precision": sampler.precision,
        "target_guidance": _target_guidance(run.train),
        "labels": evaluation.labels,
        "weights": evaluation.weights,
        **training_protocol(run),
    }


def _guidance_interval(sampler: SamplerSettings) -> str:
    """The noise levels at which there is guidance; "" where that is everywhere."""
    low = "" if sampler.guidance_from is None else f"{sampler.guidance_from:g} < "
    high = "" if sampler.guidance_to is None else f" ≤ {sampler.guidance_to:g}"
    return f"{low}σ{high}" if low or high else ""


def _target_guidance(train: TrainSpec) -> str:
    """The guidance that MeanFlow or a shortcut model has in its training target; "" where there is none."""
    meanflow, shortcut = train.meanflow, train.shortcut
    if shortcut and shortcut.guidance != 1:
        return f"{shortcut.guidance:g}"
    if meanflow is None or (meanflow.omega, meanflow.kappa) == (1, 0):
        return ""
    times = "" if (meanflow.start, meanflow.end) == (0, 1) else f", t from {meanflow.start:g} to {meanflow.end:g}"
    return f"ω = {meanflow.omega:g}, κ = {meanflow.kappa:g}{times}"


def _result(metric: str, value: float | None, state: str, reason: str) -> Result:
    return metric, math.nan if value is None else value, metric_named(metric).direction, state, reason


def _short(row: dict[str, Any]) -> str:
    guidance = "" if row["guidance"] == 1 else f" · guidance {row['guidance']:g} {row['guidance_channels']}"
    guidance += f" at {row['guidance_interval']}" if row["guidance_interval"] else ""
    guidance += f" · target guidance {row['target_guidance']}" if row["target_guidance"] else ""
    return (
        f"{row['features']} · {row['generated']} against {row['reference_count']} {row['reference']}"
        f" · {row['sampler']} NFE {row['nfe']}{guidance}"
    )


def _frame(records: Sequence[tuple[Shared, list[Result]]]) -> pd.DataFrame:
    """Return a row for each result; what several share is looked at once and then repeated."""
    known = (*COLUMNS, *SETTING_COLUMNS, *MEASURED_COLUMNS)
    others = sorted({key for shared, _ in records for key in shared} - set(known))
    names = [name for name in (*known, *others) if name not in OWN_COLUMNS]
    shared = pd.DataFrame({name: _column([record.get(name) for record, _ in records]) for name in names})
    rows = [index for index, (_, results) in enumerate(records) for _ in results]
    frame = shared.take(rows).reset_index(drop=True)
    own = list(zip(*(result for _, results in records for result in results), strict=True)) or [()] * len(OWN_COLUMNS)
    for name, values in zip(OWN_COLUMNS, own, strict=True):
        frame[name] = _column(list(values))
    return frame[[*known, *others]]


def _column(values: list[Any]) -> Any:
    """Whole numbers stay whole beside missing ones, and missing words are empty."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in present):
        return ["" if value is None else value for value in values]
    if all(type(value) is int for value in present):
        return pd.array(values, dtype="Int64")
    return values


def protocol_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that say how a number was drawn and measured; how its run was trained is another matter."""
    others = (*COLUMNS, *TRAINING_COLUMNS)
    return [name for name in frame.columns if name not in others and not name.startswith(PREFIX)]
