"""What env.json and train.jsonl tell of a training; files of before a field was recorded are read as well."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.files import read_json

Attempt = Mapping[str, Any]
TAIL = 8192  # bytes of a log: dozens of its lines, of a log that may have a hundred thousand


def read_attempts(folder: Path) -> list[Attempt]:
    """Return the attempts of a training's folder, the first one first; none where env.json is missing or broken."""
    content = read_json(folder / "env.json")
    found = content.get("attempts") if isinstance(content, dict) else None
    return [attempt for attempt in found if isinstance(attempt, dict)] if isinstance(found, list) else []


def on_gpu(attempt: Attempt) -> bool:
    """Tell whether an attempt was on GPUs."""
    return bool(attempt["gpus"]) if "gpus" in attempt else "NVIDIA" in str(attempt.get("device"))


def devices(attempt: Attempt) -> int:
    """Return how many GPUs an attempt used, one for each process, or else how many cores: the processes' threads."""
    processes = int(attempt.get("processes", 1))
    return processes if on_gpu(attempt) else processes * int(attempt.get("threads", 1))


def hours_spent(attempts: Sequence[Attempt], last_sign: float | None) -> float:
    """Return the device-hours of all attempts; one that was killed counts up to its last sign of life.

    last_sign: of the last attempt, in seconds since 1970, where it did not end.
    """
    total = 0.0
    for index, attempt in enumerate(attempts):
        end = attempt.get("end") or attempt.get("last_sign")
        if end is None and index == len(attempts) - 1 and last_sign is not None:
            end = datetime.fromtimestamp(last_sign, UTC).isoformat()
        try:
            seconds = (datetime.fromisoformat(end or "") - datetime.fromisoformat(attempt["start"])).total_seconds()
            total += max(0.0, seconds) / 3600 * devices(attempt)
        except (ValueError, KeyError, TypeError):  # killed before last signs were kept: nobody knows
            continue
    return total


def last_speeds(log: Path) -> list[float]:
    """Return the images per second of the last whole lines of a training's log, in their order."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    speeds = []
    for line in lines:
        try:
            speeds.append(float(json.loads(line)["images_per_second"]))
        except (ValueError, KeyError, TypeError):  # the first one is cut, the last one perhaps not whole
            continue
    return speeds
