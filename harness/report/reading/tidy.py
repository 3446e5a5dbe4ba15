"""A study's results as one tidy table: a row for each table × cell × seed × metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.config.grid_file import place_words
from harness.errors import UserError
from harness.metric_definitions import definition_of
from harness.report.reading.collect import RunResult
from harness.report.reading.protocol import SAMPLING_COLUMNS, TRAINING_COLUMNS, training_protocol

OWN_COLUMNS = ("metric", "value", "direction", "state", "reason")  # of a row; a run's rows share all others
LARGEST = 1 << 27  # characters; a study of two hundred trainings has two million
COLUMNS = (
    "table", "cell", "row", "column", "aside", "model", "epochs", "step", "seed", "train_id", "eval_id",
    "state", "reason", "metric", "value", "direction", "protocol", "features_note",
    *SAMPLING_COLUMNS, "labels", "weights", *TRAINING_COLUMNS,
    "nfe", "features", "generated", "reference", "reference_count",
)  # fmt: skip


def tidy_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Return a row for each result × metric; what the rows of a run share is looked at once and then repeated.

    Raises:
        UserError: it would fill the memory.
    """
    records = [_shared(result) for result in results]
    _check_size(results, records)
    names = [*COLUMNS, *sorted({key for record in records for key in record} - set(COLUMNS))]
    shared = {name: [record.get(name) for record in records] for name in names if name not in OWN_COLUMNS}
    rows = [index for index, result in enumerate(results) for _ in result.metrics]
    frame = pd.DataFrame({name: _column(values) for name, values in shared.items()}).take(rows).reset_index(drop=True)
    own = [
        (name, metric.value, definition_of(name).direction, metric.state, metric.reason)
        for result in results
        for name, metric in result.metrics.items()
    ]
    return frame.join(pd.DataFrame(own, columns=OWN_COLUMNS).astype({"value": float}))[names]


def _check_size(results: Sequence[RunResult], records: Sequence[Mapping[str, Any]]) -> None:
    sizes = [
        len(result.metrics) * sum(len(str(value)) + 1 for value in record.values())
        for result, record in zip(results, records, strict=True)
    ]
    if (total := sum(sizes)) > LARGEST:
        run = results[sizes.index(max(sizes))].run
        raise UserError(
            f"{run.train_id}/evals/{run.eval_id}.json: with {max(sizes):,} characters it is most of a table of "
            f"{total:,}, and at most {LARGEST:,} are written; a measurement has some dozens of metrics and short words"
        )


def _shared(result: RunResult) -> dict[str, Any]:
    table, cell, run = result.table, result.cell, result.run
    measurement = result.status.measurement
    return {
        **training_protocol(run),
        **result.measured_with,  # its file may have further keys, and these never stand for ours
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
        "protocol": _in_short(result.protocol) if measurement else "",
        "features_note": measurement.protocol.features_note if measurement else "",
        **{f"fact: {name}": words for name, words in result.facts.items()},
    }


def _in_short(protocol: Mapping[str, str]) -> str:
    guidance = float(protocol["guidance"])
    drawn = "" if guidance == 1 else f" · guidance {guidance:g} {protocol['guidance_channels']}"
    drawn += f" at {protocol['guidance_interval']}" if protocol["guidance_interval"] else ""
    drawn += f" · target guidance {protocol['target_guidance']}" if protocol["target_guidance"] else ""
    against = f"{protocol['generated']} against {protocol['reference_count']} {protocol['reference']}"
    return f"{protocol['features']} · {against} · {protocol['sampler']} NFE {protocol['nfe']}{drawn}"


def _column(values: list[Any]) -> Any:
    """Whole numbers stay whole beside missing ones, and missing words are empty."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in present):
        return ["" if value is None else value for value in values]
    if all(type(value) is int for value in present):
        return pd.array(values, dtype="Int64")
    if any(isinstance(value, str | bool) for value in present):  # of several kinds, as no writer of ours leaves them
        return ["" if value is None else str(value) for value in values]
    return values
