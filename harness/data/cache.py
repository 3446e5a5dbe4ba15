"""Files that are made once: one process makes them while the others that want them wait."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import Timeout

from harness.errors import UserError, user_error
from harness.files import locked


def make_once(path: Path, make: Callable[[], object]) -> None:
    """Call `make`, which writes `path`, unless it is there; who comes meanwhile waits.

    Raises:
        UserError: the cache folder cannot be written, or its filesystem cannot lock.
    """
    if path.is_file():  # without a lock: a finished cache may be read-only
        return
    with folder_lock(path.with_name(path.name + ".lock")):
        if not path.is_file():
            make()


@contextmanager
def folder_lock(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock file `path`, its folder made where it is missing. It ends with its process, so nothing is left.

    Raises:
        UserError: the folder cannot be written, its filesystem cannot lock, or another process holds the lock for more
            than `timeout` seconds; None: as `locked`.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path, timeout))
        except Timeout:
            advice = "wait for it, or choose another name"
            raise UserError(f"{path.parent}: another process is writing into it; {advice}") from None
        except OSError as error:
            advice = "mend that, or name another folder with --scratch or --data"
            raise UserError(f"{path.parent}: cannot be written: {error.strerror}; {advice}") from None
        yield


def own_file(path: Path, remove: Path) -> AbstractContextManager[None]:
    """Turn any failure to read a file that this package wrote into advice: without `remove` it is made again.

    Raises:
        UserError: the file is missing, cut off or otherwise damaged.
    """
    kinds = (OSError, EOFError, ValueError, KeyError, TypeError, MemoryError, BadZipFile)
    return user_error(f"{path}: damaged", f"delete {remove}, and it is made again", kinds)


def content_hash(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays: type, shape and values of each, in this order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for block in np.array_split(array, max(1, array.nbytes >> 26)):  # 64 MB at a time: latents exceed the memory
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
