"""What the jobs of SLURM's print: where it lies, and its end."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.store.records import Submission
from harness.store.store import Store


def output_path(store: Store, job: str) -> Path:
    """Return the file that one of SLURM's jobs writes."""
    return store.slurm_folder / job / f"{job}_0_log.out"


def log_of(store: Store, train_id: str) -> Path:
    """Return the file that a training's last job in SLURM writes.

    Raises:
        UserError: it was not sent to SLURM, or has written nothing yet.
    """
    submission = Submission.read(store.scratch_folder(train_id))
    if submission is None or submission.job is None:
        raise UserError(f"{train_id}: no job of SLURM's made this training; 'harness show {train_id}' tells the rest")
    path = output_path(store, submission.job)
    if not path.is_file():
        raise UserError(f"{train_id}: its job {submission.job} has written nothing yet ({path})")
    return path


def follow_file(path: Path, lines: int, follow: bool) -> Iterator[str]:
    """Yield the last lines of a file and, where asked, what is added to it, until interrupted."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from deque(file, maxlen=lines)
        while follow:
            yield from iter(file.readline, "")
            time.sleep(0.5)
