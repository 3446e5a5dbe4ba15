"""Results that are made once: one process makes them while the others that want them wait."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.files import locked


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold the lock of a cached file; yields whether the holder still has to make it.

    The lock ends with its process, so a killed maker leaves nothing to clean up.

    Raises:
        UserError: the cache folder cannot be written, or its filesystem cannot lock.
    """
    if path.is_file():  # without a lock: a finished cache may be read-only
        yield False
        return
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path.with_name(path.name + ".lock")))
        except OSError as error:
            raise UserError(
                f"{path.parent}: the cache cannot be written: {error.strerror}; choose another folder"
            ) from None
        yield not path.is_file()
