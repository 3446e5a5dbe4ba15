"""One writer per run: the lock of a training's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.place import under_slurm

if TYPE_CHECKING:
    from harness.engine.distributed import World

LOCK_SECONDS = 600


@contextmanager
def alone(folder: Path, world: "World") -> Iterator[None]:
    """Lock a training's folder for the processes that share it. A process that is killed lets go of it.

    Under SLURM wait for it: on a node that is given up a process may live on until the node is back.

    Raises:
        Timeout: another job holds it; in all processes.
    """
    lock = FileLock(folder / "lock", timeout=LOCK_SECONDS if under_slurm() else 0)
    if not world.decide(lambda: _locked(folder, lock)):
        raise Timeout(lock.lock_file)
    try:
        yield
    finally:
        lock.release()


def _locked(folder: Path, lock: FileLock) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(poll_interval=0.5)
    except Timeout:
        return False
    return True
