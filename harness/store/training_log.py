"""Training logs as series of numbers: what curves are drawn from and what a run's cost is counted by."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.store.store import Store

Series = tuple[tuple[int, float], ...]
NUMBER = (int, float)
HEALTH = ("gradient_share", "saturated_pairs")
KEYS = ("denoising", "regularizer", "loss", "images_per_second", "above_floor", "gradient_norm", *HEALTH)


@dataclass(frozen=True)
class Log:
    """The finite numbers of a training log, as (step, value) of each key of `KEYS`."""

    series: Mapping[str, Series]

    def of(self, key: str) -> Series:
        """Return a key's series; empty where the log does not hold it."""
        return self.series.get(key, ())

    def hours(self, batch: int, step: int) -> float | None:
        """Return how long the steps until `step` took by the logged speeds; None where they do not reach it."""
        seconds, before = 0.0, 0
        for at, speed in self.of("images_per_second"):
            if before >= step or speed <= 0:
                break
            seconds += (min(at, step) - before) * batch / speed
            before = at
        return seconds / 3600 if before >= step > 0 else None


class Logs:
    """The logs of a study, and what its trainings ran on, each read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[str, Log] = {}
        self.environments: dict[str, Any] = {}

    def of(self, train_id: str) -> Log:
        """Return a training's log; one without series where there is none."""
        if train_id not in self.read:
            self.read[train_id] = read_log(self.store.run_folder(train_id) / "train.jsonl")
        return self.read[train_id]

    def environment(self, train_id: str) -> Any:
        """Return what a training's `env.json` holds; None where there is none or it is not JSON.

        Raises:
            OSError: it cannot be read.
        """
        if train_id not in self.environments:
            self.environments[train_id] = read_json(self.store.run_folder(train_id) / "env.json")
        return self.environments[train_id]


def read_log(path: Path) -> Log:
    """Read a log by step; of a step that was done twice the last counts, and a torn line is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found: dict[int, Mapping[str, Any]] = {}
    for record in _records(lines):
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found[record["step"]] = record
    logged = sorted(found.items())
    return Log({key: _series(logged, key) for key in KEYS})


def _records(lines: Sequence[str]) -> Iterator[Any]:
    """Yield what the lines hold; all at once, which is twice as fast, unless one of them is torn."""
    try:
        yield from json.loads(f"[{','.join(lines)}]")
    except ValueError:
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)


def _series(logged: list[tuple[int, Mapping[str, Any]]], key: str) -> Series:
    values = [(step, record.get(key)) for step, record in logged]
    return tuple((step, float(v)) for step, v in values if isinstance(v, NUMBER) and math.isfinite(v))
