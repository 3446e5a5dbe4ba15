"""What the jobs of SLURM's print: found, followed, and read for what ended them."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.jobs.failures import SIGNS_IN_OUTPUT
from harness.store.records import FailureClass
from harness.store.store import Store
from harness.store.submissions import Submission, output_path

TAIL_BYTES = 4000


def log_of(store: Store, train_id: str) -> Path:
    """Return the file that a training's last job in SLURM writes.

    Raises:
        UserError: it was not sent to SLURM, or has written nothing yet.
    """
    submission = Submission.read(store.scratch_folder(train_id))
    job = submission.job if submission else None
    if job is None:
        raise UserError(f"{train_id}: no job of SLURM's made this training; 'harness show {train_id}' tells the rest")
    path = output_path(store, job)
    if not path.is_file():
        raise UserError(f"{train_id}: its job {job} has written nothing yet ({path})")
    return path


def follow_file(path: Path, lines: int, follow: bool) -> Iterator[str]:
    """Yield the last lines of a file and, where asked, what is added to it, until interrupted."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from deque(file, maxlen=lines)
        while follow:
            yield from iter(file.readline, "")
            time.sleep(0.5)


def tail(path: Path) -> str:
    """Return the end of what a job printed; nothing where it printed nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def class_in(output: str) -> FailureClass:
    """Return the class of a job's end that only its output may tell; "killed" where that does not either."""
    return next((failure for words, failure in SIGNS_IN_OUTPUT.items() if words in output), "killed")
