"""The runs behind the tables: an index of all of them, and for each training its spec, provenance and curves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from harness.files import read_json
from harness.grid import Run
from harness.report.curves import Curve, curves
from harness.report.study import command
from harness.report.tables import Pivot, PivotCell, RunState
from harness.report.words import anchor, number
from harness.store import Store


class Attempt(BaseModel):
    """One attempt of `env.json`, the part that is shown."""

    start: str
    end: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    host: str
    device: str
    versions: dict[str, str | None] = {}

    @property
    def words(self) -> str:
        """Return when, where and with what it ran, in one line."""
        changed = " with uncommitted changes" if self.dirty else ""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items() if version)
        until = f" to {self.end}" if self.end else ""
        return f"{self.start}{until}, {self.device} of {self.host}; commit {self.commit}{changed}; {versions}"


class Environment(BaseModel):
    """`env.json` of a run."""

    attempts: list[Attempt]


@dataclass(frozen=True)
class IndexedRun:
    """One line of the run index; `first` where it is the first of its cell, which the table links to."""

    table: str
    cell: str
    behind: str
    first: bool
    seed: int
    train_id: str
    eval_id: str
    state: str
    value: str


@dataclass(frozen=True)
class Use:
    """Where a training's number stands: in words, the cell's place in the index, and the number or the state."""

    words: str
    behind: str
    value: str


@dataclass(frozen=True)
class Training:
    """What is known of one training: `spec` as JSON, one line for each attempt, its curves, and where it is used."""

    train_id: str
    seed: int
    state: str
    reason: str
    command: str
    spec: str
    provenance: tuple[str, ...]
    curves: tuple[Curve, ...]
    uses: tuple[Use, ...]


def behind(pivot: Pivot, cell: PivotCell) -> str:
    """Return the name that a cell's runs have in links within the page."""
    place = next(index for index, other in enumerate(pivot.cells) if other.source is cell.source)
    return f"runs-{anchor(pivot.table.name)}-{place}"


def index(pivots: Sequence[Pivot]) -> list[IndexedRun]:
    """List every run of the study, by table, cell and seed."""
    return [
        IndexedRun(
            pivot.table.name_in_words, cell.name, behind(pivot, cell), run is cell.runs[0], run.seed, run.train_id,
            run.eval_id, run.state, _value(pivot, run),
        )
        for pivot, cell, run in _all(pivots)
    ]  # fmt: skip


def _all(pivots: Sequence[Pivot]) -> Iterator[tuple[Pivot, PivotCell, RunState]]:
    yield from ((pivot, cell, run) for pivot in pivots for cell in pivot.cells for run in cell.runs)


def _value(pivot: Pivot, run: RunState) -> str:
    value = "" if run.value is None else number(run.value, pivot.metric.decimals)
    return f"{value} {run.protocol}" if run.protocol and len(pivot.protocols) > 1 else value


def trainings(store: Store, pivots: Sequence[Pivot]) -> list[Training]:
    """Describe each training once, with every cell that shows a number of it."""
    asked: dict[str, tuple[Pivot, Run]] = {}
    for pivot in pivots:
        for run in pivot.table.runs:
            asked.setdefault(run.train_id, (pivot, run))
    uses: dict[str, list[Use]] = {}
    states: dict[str, RunState] = {}
    for pivot, cell, state in _all(pivots):
        said = f"{pivot.table.name_in_words}, {cell.name}"
        value = f"{pivot.metric.title} {_value(pivot, state)}" if state.value is not None else state.state
        uses.setdefault(state.train_id, []).append(Use(said, behind(pivot, cell), value))
        if state.train_id not in states or state.value is None:
            states[state.train_id] = state
    return [_training(store, pivot, run, states[name], uses[name]) for name, (pivot, run) in asked.items()]


def _training(store: Store, pivot: Pivot, run: Run, state: RunState, uses: Sequence[Use]) -> Training:
    spec: Mapping[str, object] = run.train.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Training(
        train_id=run.train_id,
        seed=run.seed,
        state=state.state,
        reason=state.reason,
        command=command(store, pivot.table),
        spec=json.dumps(spec, indent=1, ensure_ascii=False),
        provenance=_provenance(store, run),
        curves=curves(store.run_folder(run.train_id) / "train.jsonl", run.train_id),
        uses=tuple(uses),
    )


def _provenance(store: Store, run: Run) -> tuple[str, ...]:
    """Return a line for each attempt; a file that cannot be read is told in its place."""
    try:
        content = read_json(store.run_folder(run.train_id) / "env.json")
        if content is None:
            return ()
        return tuple(attempt.words for attempt in Environment.model_validate(content).attempts)
    except (OSError, ValidationError):
        return ("env.json is unreadable",)
