"""A study's results as one tidy table: a row for each table × cell × seed × metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config.grid_file import place_words
from harness.errors import UserError
from harness.metric_definitions import definition_of
from harness.report.reading.collect import RunResult
from harness.report.reading.protocol import SAMPLING_COLUMNS, TRAINING_COLUMNS, training_protocol

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1 << 27  # characters; a study of two hundred trainings has two million
BEFORE = ("table", "cell", "row", "column", "aside", "model", "epochs", "step", "seed", "train_id", "eval_id")
OWN = ("state", "reason", "metric", "value", "direction")  # of a row; a run's rows share all others
AFTER = (
    "protocol", "features_note", *SAMPLING_COLUMNS, "labels", "weights", *TRAINING_COLUMNS,
    "nfe", "features", "generated", "reference", "reference_count",
)  # fmt: skip
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TidyTable:
    """Columns by name, those of a run before and after its rows' own; counts: how many rows each run has."""

    before: Columns
    own: Columns
    after: Columns
    counts: Sequence[int]

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column, one for each row."""
        if name in self.own:
            return self.own[name]
        shared = {**self.before, **self.after}[name]
        return [value for value, count in zip(shared, self.counts, strict=True) for _ in range(count)]

    def frame(self) -> "pd.DataFrame":
        """Return it as a frame: whole numbers stay whole beside missing ones."""
        import pandas as pd  # slow to load, and only Parquet needs it

        shared = {name: _typed(values) for name, values in {**self.before, **self.after}.items()}
        rows = [index for index, count in enumerate(self.counts) for _ in range(count)]
        own = pd.DataFrame(self.own).astype({"value": float})
        frame = pd.DataFrame(shared).take(rows).reset_index(drop=True).join(own)
        return frame[[*self.before, *self.own, *self.after]]


def tidy_table(results: Sequence[RunResult]) -> TidyTable:
    """Return a row for each result × metric; what the rows of a run share is looked at once.

    Raises:
        UserError: it would fill the memory.
    """
    records = [_shared(result) for result in results]
    _check_size(results, records)
    further = sorted({key for record in records for key in record} - {*BEFORE, *OWN, *AFTER})
    rows = [
        (metric.state, metric.reason, name, metric.value, definition_of(name).direction)
        for result in results
        for name, metric in result.metrics.items()
    ]
    return TidyTable(
        before={name: _column(records, name) for name in BEFORE},
        own={name: [row[place] for row in rows] for place, name in enumerate(OWN)},
        after={name: _column(records, name) for name in (*AFTER, *further)},
        counts=[len(result.metrics) for result in results],
    )


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


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return the values of a column, of one kind beside None; missing words are empty."""
    values = [record.get(name) for record in records]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return ["" if value is None else value for value in values]
    if kinds == {int}:
        return values
    if kinds & {str, bool}:  # of several kinds, as no writer of ours leaves them
        return ["" if value is None else str(value) for value in values]
    return [None if value is None else float(value) for value in values]


def _typed(values: Sequence[Any]) -> Any:
    import pandas as pd

    is_whole = all(value is None or type(value) is int for value in values)
    return pd.array(values, dtype="Int64") if is_whole else values
