"""What env.json tells of a training's attempts; files of before a field was recorded are read as well."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.files import read_json

Attempt = Mapping[str, Any]


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
