"""How each training of a study stands, from its own files alone: true from any host, and when its submitter is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.grid import Run, Table
from harness.files import read_json
from harness.planning.plan import Training, trainings
from harness.store.attempts import hours_spent, last_speeds, on_gpu, read_attempts
from harness.store.store import State, Status, Store


@dataclass(frozen=True)
class Standing:
    """One training. epoch: in the paper's epochs, of so many. seconds_left: until the last training step; None where
    that is not known. hours: spent, of GPUs or else of cores."""

    train_id: str
    model: str
    words: str
    seed: int
    tables: tuple[str, ...]
    state: State
    reason: str
    phase: str
    step: int
    steps: int
    epoch: float
    epochs: float
    measured: int
    measurements: int
    images_per_second: float | None
    seconds_left: float | None
    hours: float
    unit: str
    attempts: int


def standings(tables: Sequence[Table], store: Store) -> list[Standing]:
    """Return how each distinct training of some tables stands, in the order of the report."""
    runs: dict[str, dict[str, Run]] = {}
    epoch: dict[str, int] = {}
    for table in tables:
        for run in table.runs:
            runs.setdefault(run.train_id, {})[run.eval_id] = run
            epoch[run.train_id] = table.scale.steps_per_epoch
    return [_standing(store, t, runs[t.train_id], epoch[t.train_id]) for t in trainings(tables)]


def _standing(store: Store, training: Training, runs: dict[str, Run], epoch: int) -> Standing:
    folder, run = store.run_folder(training.train_id), next(iter(runs.values()))
    states = {eval_id: store.status(training.train_id, eval_id) for eval_id in runs}
    status = next((status for status in states.values() if status.state != "done"), Status("done"))
    done, attempts = status.state == "done", read_attempts(folder)
    sign = {} if done else _sign(folder)
    step = training.steps if done else int(sign.get("step") or 0)
    speeds = last_speeds(folder / "train.jsonl") if status.state == "running" else []
    speed = speeds[-1] if speeds else None
    left = (training.steps - step) * run.train.batch / speed if speed else None
    return Standing(
        training.train_id, training.model, training.words, training.seed, training.tables,
        status.state, status.reason, status.phase, step, training.steps, step / epoch, training.steps / epoch,
        sum(status.state == "done" for status in states.values()), len(runs), speed, left,
        hours_spent(attempts, sign.get("time")), "GPU" if _uses_gpus(attempts, run) else "core", len(attempts),
    )  # fmt: skip


def _sign(folder: Path) -> dict[str, Any]:
    """Return the last sign of life of a training that did not end well: its heartbeat, or what its failure left."""
    for name in ("heartbeat.json", "error.json"):
        sign = read_json(folder / name)
        if isinstance(sign, dict):
            return sign
    return {}


def _uses_gpus(attempts: Sequence[Any], run: Run) -> bool:
    return on_gpu(attempts[-1]) if attempts else run.resources.gpus > 0
