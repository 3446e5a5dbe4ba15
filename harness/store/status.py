"""How a run and a training stand by the files of their folders: done, running, failed …; and how far a study is.

True from any host, and when the submitter is gone; what a queue knows beside is joined in `slurm/queue_status.py`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.config.grid import Run, Table, all_runs
from harness.config.spec import eval_id, train_id
from harness.errors import UserError
from harness.files import is_file
from harness.store import records
from harness.store.records import LOG, Environment, Failure, Heartbeat, early_overshoot, last_speeds
from harness.store.store import Store, part_folders
from harness.store.study import Training, runs_by_training, trainings

# By its files. skipped: by a job that was cancelled, or that found another at work
FileState = Literal["done", "running", "interrupted", "failed", "diverged", "unreadable", "not run", "skipped"]
# Of a training that was sent to SLURM also these (`slurm/queue_status.py`). starting: its job runs, and has given no
# sign of life yet. held: until somebody releases it. ending: SLURM is taking it down. unknown: SLURM tells nothing.
State = Literal[FileState, "starting", "waiting", "held", "suspended", "ending", "unknown"]
CENTURY = 3.156e9  # seconds
# Of the jobs of a training, by what is told of it.
URGENCY: tuple[State, ...] = ("running", "failed", "diverged", "interrupted", "not run")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands by its folder, or where a job leaves it. reason: why it is not done, or what its job is doing;
    measurement: what was measured, where `run_result` was asked."""

    state: State
    reason: str = ""
    measurement: records.Measurement | None = None

    @property
    def lets_go_on(self) -> bool:
        """Whether what comes after a job that left it so has something to begin with: also what diverged was once good
        for something."""
        return self.state in ("done", "diverged")

    @property
    def words(self) -> str:
        """The reason in one line."""
        return " ".join(self.reason.split())


def run_result(store: Store, run: Run, fault: Callable[[Store, Run], str] | None = None) -> RunStatus:
    """Return a run's status with what was measured; a file that holds something else is a state as well.

    fault: `spec_fault`, or what remembers it of trainings that are measured many times.
    """
    status = run_status(store, run.train_id, run.eval_id, records.Measurement)
    if status.measurement is None:
        return status
    wrong = _asked_otherwise(status.measurement, run.train_id, run.eval_id) or (fault or spec_fault)(store, run)
    return RunStatus("unreadable", wrong) if wrong else status


def checked_status(store: Store, run: Run, fault: Callable[[Store, Run], str] | None = None) -> RunStatus:
    """Return what `run_result` does, for those who show no metric: one that cannot be is a state of the run as well."""
    status = run_result(store, run, fault)
    wrong = impossible(status.measurement) if status.measurement else ""
    return RunStatus("unreadable", wrong) if wrong else status


def measurement_fault(store: Store, train_id: str, eval_id: str) -> str:
    """Say why what is stored as a measurement is none, or another, or holds what cannot be; "" where it is sound."""
    status = run_status(store, train_id, eval_id, records.Measurement)
    if status.measurement is None:
        return status.reason
    return _asked_otherwise(status.measurement, train_id, eval_id) or impossible(status.measurement)


def impossible(measurement: records.Measurement) -> str:
    """Say which metric of a measurement is no number, or one that it cannot be; "" where there is none."""
    reason = next(filter(None, (measurement.number(name)[1] for name in measurement.metrics)), "")
    return reason and f"evals/{measurement.eval_id}.json: {reason}; delete it, and the next run measures again"


def spec_fault(store: Store, run: Run) -> str:
    """Say why a training's folder is not of the training that its name says; "" where it is, or holds no spec.json."""
    folder = store.run_folder(run.train_id)
    if records.spec_identity(folder) == run.train_id:
        return ""
    try:
        file, train = records.SpecFile.load(folder), records.read_spec(folder)
    except UserError as error:
        return str(error)
    if file is None or (train and train_id(train) == run.train_id):
        return ""
    name = f"{folder.name}/{records.SpecFile.FILE}"
    return f"{name} is not of this training; remove the folder, and the next run makes it"


def _asked_otherwise(measurement: records.Measurement, train_id: str, name: str) -> str:
    """Say why a measurement is not the one that its name says, by the specification in it; before, none was kept."""
    if not measurement.spec or eval_id(train_id, measurement.spec) == name:
        return ""
    if (evaluation := measurement.evaluation) and eval_id(train_id, evaluation) == name:  # spelt otherwise
        return ""
    return f"evals/{name}.json: its spec is of another measurement; delete it, and the next run measures again"


def run_status(store: Store, train_id: str, eval_id: str, kind: type[records.Record] = records.Record) -> RunStatus:
    """Derive a run's status from which files exist; a file that cannot be read is a state, and never raised.

    kind: what a measurement's file must hold for it to be done; else that it is whole is enough.
    """
    path = store.eval_path(train_id, eval_id)
    try:
        record = kind.load(path)
        if record is None:
            return unfinished(store.run_folder(train_id))
        measurement = record if isinstance(record, records.Measurement) else None
        if measurement and (measurement.train_id, measurement.eval_id) != (train_id, eval_id):
            whose = f"{measurement.eval_id} of {measurement.train_id}"
            raise records.DamagedRecord(f"evals/{path.name} holds another measurement: {whose}")
        return RunStatus("done", measurement=measurement)
    except records.DamagedRecord as error:
        remedy = "the next run measures again" if is_file(path) else "delete it"
        return RunStatus("unreadable", str(error) if store.measured(train_id, eval_id) else f"{error}; {remedy}")
    except UserError as error:
        return RunStatus("unreadable", str(error))


def unfinished(folder: Path) -> RunStatus:
    """Return how a run stands that is not done, by the signs of life and failures of its jobs: those of the parts of
    its training too."""
    found = [signs(place) for place in (folder, *part_folders(folder))]
    return min(found, key=lambda status: URGENCY.index(status.state))


def signs(folder: Path) -> RunStatus:
    """Return how a job stands by what it wrote into its folder: running, failed, diverged, interrupted, or not run."""
    heartbeat, failure = records.Heartbeat.load(folder), records.Failure.load(folder)
    if heartbeat and heartbeat.alive:
        return RunStatus("running", f"{heartbeat.phase}, step {heartbeat.step} of {heartbeat.total}")
    if failure:
        return RunStatus("diverged" if failure.kind == "diverged" else "failed", failure.message)
    if heartbeat:
        return RunStatus("interrupted", f"last sign at step {heartbeat.step}; the next run goes on from its checkpoint")
    environment = records.Environment.load(folder)
    if environment and environment.last and environment.last.part == "train":
        return RunStatus("interrupted", "its training is done, and not all of it is measured yet")
    return RunStatus("not run")


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
    warning: str = ""  # what its log warns of


def training_statuses(tables: Sequence[Table], store: Store) -> list[TrainingStatus]:
    """Return how each distinct training of some tables stands, in the order of the report."""
    runs = runs_by_training(all_runs(tables))
    epoch = {run.train_id: table.scale.steps_per_epoch for table in tables for run in table.runs}
    return [_status(store, t, runs[t.train_id], epoch[t.train_id]) for t in trainings(tables)]


def _status(store: Store, training: Training, runs: Sequence[Run], steps_per_epoch: int) -> TrainingStatus:
    folder, run = store.run_folder(training.train_id), runs[0]
    fault = spec_fault(store, run)  # one for all of them
    statuses = [checked_status(store, run, lambda *_: fault) for run in runs]
    status = next((status for status in statuses if status.state != "done"), RunStatus("done"))
    done, running = status.state == "done", status.state == "running"
    environment = Environment.peek(folder) or Environment()
    signs_of_life = {place: None if done else last_sign(place) for place in (folder, *part_folders(folder))}
    at_work = [sign for sign in signs_of_life.values() if isinstance(sign, Heartbeat) and sign.alive]
    sign = at_work[0] if at_work else next((sign for sign in signs_of_life.values() if sign), None)
    trained = done or (status.state == "interrupted" and not sign)  # and it waits for what measures it
    step = training.steps if trained else (sign and sign.step) or 0
    speed = next(reversed(last_speeds(folder / LOG)), None) if running else None
    left = max(0, training.steps - step) * run.train.batch / speed if speed else None
    on_gpu = environment.last.on_gpu if environment.last else run.resources.on_gpu
    return TrainingStatus(
        **vars(training),
        state=status.state,
        reason="" if running else status.reason,
        phase=_phase(at_work) if running else "",
        step=step,
        epoch=step / steps_per_epoch,
        epochs=training.steps / steps_per_epoch,
        measured=sum(status.state == "done" for status in statuses),
        images_per_second=speed,
        seconds_left=None if left is None or math.isinf(left) else left,
        hours=sum(_hours(place, sign) for place, sign in signs_of_life.items()),
        unit="GPU" if on_gpu else "core",
        attempts=len(environment.attempts),
        warning=peak.words if (peak := early_overshoot(folder / LOG)) else "",
    )


def _phase(at_work: Sequence[Heartbeat]) -> str:
    """Say what the jobs of a training are doing, in the words of the first."""
    more = f"; {len(at_work) - 1} more jobs at work" if len(at_work) > 1 else ""
    return at_work[0].phase + more if at_work else ""


def _hours(folder: Path, sign: Heartbeat | Failure | None) -> float:
    return (Environment.peek(folder) or Environment()).hours(sign.time if sign else None)


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
