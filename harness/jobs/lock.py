"""One writer per run: the lock of a training's folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from harness.files import locked
from harness.process_group import under_slurm

if TYPE_CHECKING:
    from harness.engine.distributed import World

LOCK_SECONDS = 600


@contextmanager
def alone(folder: Path, world: "World") -> Iterator[None]:
    """Lock a training's folder for the processes that share it. A process that is killed lets go of it.

    Under SLURM wait for it: on a node that is given up a process may live on until the node is back.

    Raises:
        Timeout: another job holds it; in all processes.
        UserError: the filesystem cannot lock.
    """
    with ExitStack() as held:
        if not world.decide(lambda: _lock(folder, held)):
            raise Timeout(str(folder / "lock"))
        yield


def _lock(folder: Path, held: ExitStack) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held.enter_context(locked(folder / "lock", LOCK_SECONDS if under_slurm() else 0))
    except Timeout:
        return False
    return True
