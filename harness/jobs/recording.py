"""What a job tells of itself in its run's folder: what is trained, where and with what, and how it ended."""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.config.spec import TrainSpec
from harness.errors import Diverged, UserError
from harness.files import read_json, remove_temporaries, write_json
from harness.jobs.failures import class_of
from harness.jobs.heart import Heart

SHORT = 2000  # characters of a traceback: with the rest of the file they fit into one block of a disk


@contextmanager
def recorded(folder: Path, train: TrainSpec, steps: int, threads: int, processes: int) -> Iterator[Heart]:
    """Record a job in its run's folder while it works, `processes` together with `threads` each, towards `steps`."""
    from harness.jobs.provenance import now, provenance

    remove_temporaries(folder)
    environment = read_json(folder / "env.json") or {"attempts": []}
    attempts: list[dict[str, Any]] = environment["attempts"]
    _close_last(attempts, folder)
    (folder / "error.json").unlink(missing_ok=True)
    write_json(folder / "spec.json", train.model_dump(mode="json", by_alias=True, exclude_none=True))
    attempts.append({"attempt": len(attempts) + 1, **provenance(folder, threads, processes)})
    write_json(folder / "env.json", environment)
    with Heart(folder / "heartbeat.json", steps) as heart:
        yield heart
    attempts[-1]["end"] = now()
    write_json(folder / "env.json", environment)


def _close_last(attempts: list[dict[str, Any]], folder: Path) -> None:
    """Note when the attempt before was last alive, where it did not end: its signs are about to be overwritten."""
    if not attempts or attempts[-1].get("end"):
        return
    for name in ("heartbeat.json", "error.json"):
        sign = read_json(folder / name)
        if isinstance(sign, dict) and isinstance(sign.get("time"), int | float):
            attempts[-1]["last_sign"] = datetime.fromtimestamp(sign["time"], UTC).isoformat(timespec="seconds")
            return


def record_failure(folder: Path, error: BaseException) -> str:
    """Store a failure where the collector finds it, and return it in words.

    Raises:
        OSError: it cannot be stored, not even in the room that the last sign of life took on a disk that is full.
    """
    sign = folder / "heartbeat.json"
    beat = read_json(sign)
    message = str(error) if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    content = {
        "class": class_of(error),
        "message": message,
        "traceback": trace,
        "step": beat.get("step") if isinstance(beat, dict) else None,
        "time": time.time(),
    }
    try:
        write_json(folder / "error.json", content)
    except OSError:
        sign.unlink(missing_ok=True)
        write_json(folder / "error.json", content | {"traceback": trace[-SHORT:]})
    sign.unlink(missing_ok=True)
    return message
