"""What a study ran, in words: scale, data, networks, training, readings, and the index of its runs."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.grid import Run, Table
from harness.report.tables import Pivot
from harness.report.words import counted, listed, number, sampler_words
from harness.spec import Data, Model, RegularizerSettings, Scale, TrainSpec
from harness.store import Store


@dataclass(frozen=True)
class Fact:
    """One line of "what was run": a term and what is said of it."""

    term: str
    words: str


@dataclass(frozen=True)
class Reading:
    """A setting that the paper leaves open: why, what we took, and how many runs depend on it."""

    sentence: str
    key: str
    description: str
    values: str
    runs: str


@dataclass(frozen=True)
class IndexedRun:
    """One line of the run index."""

    cell: str
    seed: int
    train_id: str
    eval_id: str
    state: str
    value: str


@dataclass(frozen=True)
class IndexedTable:
    """The runs of one table, and the command that makes whatever they lack."""

    heading: str
    metric: str
    command: str
    runs: tuple[IndexedRun, ...]


def scales(tables: Iterable[Table]) -> list[Scale]:
    """Return the different scales of a study's tables, in order."""
    return list({table.scale.scale: table.scale for table in tables}.values())


def heading(table: Table) -> str:
    """Return "Table 2. Title", or the title alone where the table has a name and no number."""
    return f"Table {table.file.table}. {table.file.title}" if table.file.table[:1].isdigit() else table.file.title


def short_heading(table: Table) -> str:
    """Return "Table 2", or the title where the table has no number."""
    return f"Table {table.file.table}" if table.file.table[:1].isdigit() else table.file.title


def facts(pivots: Sequence[Pivot]) -> list[Fact]:
    """Say what was run, each line from the specs and measurements of the study's own runs."""
    runs = [run for pivot in pivots for run in pivot.table.runs]
    notes = sorted({note for pivot in pivots for note in pivot.features_notes})
    said = [
        Fact("Data", _joined(_data_words(run.train.data) for run in runs)),
        Fact("Networks", _joined(_network_words(pivots))),
        Fact("Training", _joined(_training_words(run.train) for run in runs)),
        Fact("Length", _joined(_length_words(pivots))),
        Fact("Seeds", listed([str(seed) for seed in sorted({run.seed for run in runs})])),
        Fact("Sampling", _joined(_sampling_words(pivots)) or "Nothing has been drawn yet."),
        Fact("Features", _joined(notes) or "Nothing has been measured yet."),
        Fact("Runs", _runs_words(pivots)),
    ]
    return said


def _joined(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(words))


def _data_words(data: Data) -> str:
    flips = ", flipped left to right at random" if data.flip else ""
    channels = counted(data.channels, "channel")
    return f"{data.name}, {data.size} × {data.size}, {channels}, {counted(data.classes, 'class')}{flips}"


def _network_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    for pivot in pivots:
        for cell in pivot.table.cells:
            model = cell.runs[0].train.model
            yield f"{cell.settings.model} stands for {_model_words(model)}"


def _model_words(model: Model) -> str:
    return f"{model.depth} blocks of width {model.width} with {counted(model.heads, 'head')}, patch {model.patch}"


def _training_words(train: TrainSpec) -> str:
    adam = train.optimizer
    decay = f", weight decay {adam.weight_decay:g}" if adam.weight_decay else ""
    return (
        f"batch {train.batch}, AdamW at {adam.learning_rate:g} with β ({adam.beta1:g}, {adam.beta2:g}){decay}, "
        f"EMA {train.ema:g}, label drop {train.label_drop:g}, {train.precision}"
    )


def _length_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    """Say for each scale how many steps stand for the paper's epochs."""
    for scale in scales([pivot.table for pivot in pivots]):
        cells = [c for pivot in pivots if pivot.table.scale.scale == scale.scale for c in pivot.table.cells]
        epochs = sorted({cell.settings.epochs for cell in cells})
        of_paper = listed([f"{number:,}" for number in epochs])
        here = listed([f"{number * scale.steps_per_epoch:,}" for number in epochs])
        yield f"{of_paper} epochs of the paper stand for {here} steps"


def _sampling_words(pivots: Sequence[Pivot]) -> Iterable[str]:
    for pivot in pivots:
        for protocol in pivot.protocols.values():
            yield sampler_words(dict(protocol))


def _runs_words(pivots: Sequence[Pivot]) -> str:
    """Count trainings, measurements and their states, each once however many tables share it."""
    states = {run.eval_id: run.state for pivot in pivots for cell in pivot.cells for run in cell.runs}
    trainings = {run.train_id for pivot in pivots for cell in pivot.cells for run in cell.runs}
    counts = ", ".join(f"{n:,} {state}" for state, n in Counter(states.values()).most_common())
    return f"{counted(len(trainings), 'training')}, {counted(len(states), 'measurement')}: {counts}"


def readings(runs: Iterable[Run]) -> list[Reading]:
    """Return every open setting of the regulariser that some run uses, with the value it used."""
    trainings = {run.train_id: run.train.regularizer for run in runs if run.train.regularizer}
    found = []
    for name, field in RegularizerSettings.model_fields.items():
        extra: Mapping[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        used = [value for spec in trainings.values() if (value := getattr(spec, name)) is not None]
        if "reading" in extra and used:
            values = listed([str(value) for value in sorted(set(used))])
            key = f"regularizer.{field.alias or name}"
            found.append(
                Reading(extra["reading"], key, field.description or "", values, counted(len(used), "training"))
            )
    return found


def index(store: Store, pivots: Sequence[Pivot]) -> list[IndexedTable]:
    """List every run of the study by table, with the command that makes it again."""
    recorded = {Path(grid["grid"]).stem: grid for grid in _recorded(store)}
    return [
        IndexedTable(
            heading=heading(pivot.table),
            metric=pivot.metric.title,
            command=_command(store.study, pivot.table, recorded.get(pivot.table.name, {})),
            runs=tuple(_indexed(pivot)),
        )
        for pivot in pivots
    ]


def _recorded(store: Store) -> list[dict[str, Any]]:
    return list(store.grids()) if any((store.root / "grids").glob("*.json")) else []


def _command(study: str, table: Table, recorded: Mapping[str, Any]) -> str:
    """The command that makes the runs of a table; an absolute path is cut to its end, as it is true on one machine."""
    grid = Path(recorded.get("grid", f"grids/{table.name}.yaml"))
    shown = Path(*grid.parts[-2:]) if grid.is_absolute() else grid
    words = ["harness", "run", shown.as_posix(), "--scale", table.scale.scale, "--study", study]
    for override in recorded.get("set", []):
        words += ["--set", override]
    return shlex.join(words)


def _indexed(pivot: Pivot) -> Iterable[IndexedRun]:
    for cell in pivot.cells:
        for run in cell.runs:
            value = "" if run.value is None else number(run.value, pivot.metric.decimals)
            letter = f" {run.protocol}" if run.protocol and len(pivot.protocols) > 1 else ""
            yield IndexedRun(cell.name, run.seed, run.train_id, run.eval_id, run.state, value + letter)
