"""The trainings of a study: which there are, how each stands, and how far all of them are together.

All of it from the study's own files, so it is true from any host, and when its submitter is gone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.grid import Cell, Run, Table, all_runs, load_table
from harness.config.yaml_document import Layer
from harness.errors import UserError
from harness.files import is_file
from harness.store.records import LOG, Environment, Failure, GridRecord, Heartbeat, last_speeds
from harness.store.store import RunStatus, State, Store, each_or_told


def study_tables(store: Store, overrides: Sequence[str] = (), layer: Layer | None = None) -> list[Table]:
    """Expand a study's grids again, in the order of the report; overrides and layer: as in `load_table`.

    A grid that is not here or cannot be read is told, and left out while another can be.

    Raises:
        UserError: there is no such study, none of its grids can be read, or the overrides are wrong.
    """

    def by_itself(record: GridRecord) -> tuple[GridRecord, Table]:
        if not is_file(Path(record.grid)):
            raise UserError(f"{store.root}: its grid {record.grid} is not here; stand in the project's folder")
        return record, load_table(Path(record.grid), record.scale, record.overrides)

    tables = each_or_told(by_itself, store.grids())
    if overrides or layer:  # a mistake of these stops all
        tables = [(r, load_table(Path(r.grid), r.scale, [*r.overrides, *overrides], layer)) for r, _ in tables]
    return sorted((table for _, table in tables), key=_place)


def _place(table: Table) -> tuple[bool, bool, str, str]:
    """Sort key: tables of the paper by their number, then its figures, then tables of our own."""
    title = table.file.table
    return not table.is_paper, not title[:1].isdigit(), title.zfill(16), table.name


def runs_by_training(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Gather runs by their training, each measurement once, in their order."""
    by_training: dict[str, dict[str, Run]] = {}
    for run in runs:
        by_training.setdefault(run.train_id, {}).setdefault(run.eval_id, run)
    return {train_id: list(by_measurement.values()) for train_id, by_measurement in by_training.items()}


CENTURY = 3.156e9  # seconds


@dataclass(frozen=True)
class Training:
    """One training, however many cells and tables want it: its longest length, and how often it is measured."""

    train_id: str
    model: str
    words: str
    seed: int
    tables: tuple[str, ...]
    steps: int
    measurements: int


def trainings(tables: Sequence[Table]) -> list[Training]:
    """Return each distinct training once, in the words of the first table that wants it, in the order of the report."""
    uses: dict[str, list[tuple[Table, Cell, Run]]] = {}
    for table in sorted(tables, key=_place):
        for cell in table.cells:
            for run in cell.runs:
                uses.setdefault(run.train_id, []).append((table, cell, run))
    changing = {table.name: {axis for axis in table.file.axes if _changes_training(table, axis)} for table in tables}
    return [_training(same, changing) for same in uses.values()]


def _training(uses: Sequence[tuple[Table, Cell, Run]], changing: Mapping[str, set[str]]) -> Training:
    table, _, run = uses[0]
    longest = max((cell for other, cell, _ in uses if other is table), key=lambda cell: cell.settings.epochs)
    return Training(
        train_id=run.train_id,
        model=", ".join(dict.fromkeys(cell.settings.model for _, cell, _ in uses)),
        words="; ".join(f"{axis}: {label}" for axis, label in longest.at if axis in changing[table.name]),
        seed=run.seed,
        tables=tuple(dict.fromkeys(table.name for table, _, _ in uses)),
        steps=max(run.evaluation.step for _, _, run in uses),
        measurements=len({run.eval_id for _, _, run in uses}),
    )


def _changes_training(table: Table, axis: str) -> bool:
    """Tell whether an axis says anything beside how long is trained and how is measured."""
    keys = {key.partition(".")[0] for settings in table.file.axes[axis].values() for key in settings}
    return bool(keys - {"epochs", "sampler", "evaluation", "resources"})


@dataclass(frozen=True)
class TrainingStatus(Training):
    """How a training stands by its own files. epoch: in the paper's epochs, of so many. measured: measurements that are
    done. seconds_left: until the last training step; None where that is not known. hours: spent, of GPUs or else of
    cores."""

    state: State
    reason: str
    phase: str
    step: int
    epoch: float
    epochs: float
    measured: int
    images_per_second: float | None
    seconds_left: float | None
    hours: float
    unit: str
    attempts: int


def training_statuses(tables: Sequence[Table], store: Store) -> list[TrainingStatus]:
    """Return how each distinct training of some tables stands, in the order of the report."""
    runs = runs_by_training(all_runs(tables))
    epoch = {run.train_id: table.scale.steps_per_epoch for table in tables for run in table.runs}
    return [_status(store, t, runs[t.train_id], epoch[t.train_id]) for t in trainings(tables)]


def _status(store: Store, training: Training, runs: Sequence[Run], steps_per_epoch: int) -> TrainingStatus:
    folder, run = store.run_folder(training.train_id), runs[0]
    statuses = [store.status(run.train_id, run.eval_id) for run in runs]
    status = next((status for status in statuses if status.state != "done"), RunStatus("done"))
    done, running = status.state == "done", status.state == "running"
    environment = Environment.peek(folder) or Environment()
    sign = None if done else last_sign(folder)
    step = training.steps if done else (sign and sign.step) or 0
    speed = next(reversed(last_speeds(folder / LOG)), None) if running else None
    left = max(0, training.steps - step) * run.train.batch / speed if speed else None
    on_gpu = environment.last.on_gpu if environment.last else run.resources.on_gpu
    return TrainingStatus(
        **vars(training),
        state=status.state,
        reason="" if running else status.reason,
        phase=sign.phase if running and isinstance(sign, Heartbeat) else "",
        step=step,
        epoch=step / steps_per_epoch,
        epochs=training.steps / steps_per_epoch,
        measured=sum(status.state == "done" for status in statuses),
        images_per_second=speed,
        seconds_left=None if left is None or math.isinf(left) else left,
        hours=environment.hours(sign.time if sign else None),
        unit="GPU" if on_gpu else "core",
        attempts=len(environment.attempts),
    )


def last_sign(folder: Path) -> Heartbeat | Failure | None:
    """Return the last sign of life of a training that did not end well: its heartbeat, or what its failure left."""
    return Heartbeat.peek(folder) or Failure.peek(folder)


@dataclass(frozen=True)
class Progress:
    """Steps done of those asked for, and measurements by state. What failed or diverged counts as ended."""

    steps: int
    all_steps: int
    states: dict[str, int]

    @property
    def share(self) -> float:
        """Steps done of those asked for, from 0 to 1."""
        return self.steps / self.all_steps if self.all_steps else 1.0

    def seconds_left(self, before: "Progress", seconds: float) -> float | None:
        """Return the seconds left at the pace since `before`, `seconds` ago; None where nothing has moved."""
        moved = self.steps - before.steps
        return (self.all_steps - self.steps) * seconds / moved if moved > 0 and seconds > 0 else None

    def words(self, left: float | None) -> str:
        """Return "12 of 26 measurements done, 1 running, about 3 min left"."""
        total, states = sum(self.states.values()), dict(self.states)
        parts = [f"{states.pop('done', 0):,} of {total:,} measurement{'' if total == 1 else 's'} done"]
        parts += [f"{count:,} {state}" for state, count in sorted(states.items())]
        if self.steps < self.all_steps:
            parts.append("time left not known yet" if left is None else f"about {seconds_in_words(left)} left")
        return ", ".join(parts)


def progress(statuses: Iterable[TrainingStatus]) -> Progress:
    """Return how far trainings are together; measuring counts as one more step."""
    states, steps, all_steps = Counter[str](), 0, 0
    for status in statuses:
        states["done"] += status.measured
        states[status.state] += status.measurements - status.measured
        all_steps += status.steps + 1
        ended = status.state in ("done", "failed", "diverged")
        steps += status.steps + 1 if ended else min(status.step, status.steps)
    return Progress(steps, all_steps, dict(+states))


def seconds_in_words(seconds: float) -> str:
    """Return a time in its two largest units: "2 d 4 h", "3 h 12 min", "5 min 2 s"."""
    if seconds > CENTURY:
        return "more than a century"
    whole = round(seconds)
    for size, unit, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {smaller}"
    return f"{whole} s"
