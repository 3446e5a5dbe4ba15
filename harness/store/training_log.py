"""Training logs as series of numbers: what curves are drawn from and what a run's cost is counted by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.files import parse_log, read_jsonl, tail
from harness.store.records import LOG, Environment
from harness.store.store import Store

Series = tuple[tuple[int, float], ...]
NUMBER = (int, float)
HEALTH = ("gradient_share", "saturated_pairs")
KEYS = ("denoising", "regularizer", "loss", "images_per_second", "above_floor", "gradient_norm", *HEALTH)
TAIL = 8192  # bytes of a log: dozens of its lines, of a log that may have a hundred thousand


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
    """The logs of a study, and what its trainings ran on, by their identity and each read once; what a training's
    folder lacks is a log without series and an environment that is None.

    Raises:
        DamagedRecord, NewerRecord, OSError: as `Record.load`, where an environment cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self.of = cache(lambda train_id: read_log(store.run_folder(train_id) / LOG))
        self.environment = cache(lambda train_id: Environment.load(store.run_folder(train_id)))


def read_log(path: Path) -> Log:
    """Read a log; one without series where it cannot be read."""
    try:
        lines = read_jsonl(path)
    except OSError:
        lines = []
    return Log({key: _series(lines, key) for key in KEYS})


def _series(lines: list[dict[str, Any]], key: str) -> Series:
    values = [(line["step"], line.get(key)) for line in lines]
    return tuple((step, float(v)) for step, v in values if isinstance(v, NUMBER) and math.isfinite(v))


def last_speeds(path: Path) -> list[float]:
    """Return the images per second of the last whole lines of a log, in their order."""
    speeds = (line.get("images_per_second") for line in parse_log(tail(path, TAIL)))
    return [float(speed) for speed in speeds if isinstance(speed, NUMBER)]
