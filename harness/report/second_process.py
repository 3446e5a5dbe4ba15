"""Work in a process beside this one, where there is a core for it and that is safe."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar, cast

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin work that can be done twice in a process of its own; return what waits for its result, which is pickled.

    Where no process may be forked it is done here, when its result is asked for. So is what fails there: it fails here
    again, and is told as if there were one process.
    """
    if not _may_fork():
        return work
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    with theirs:
        process = fork.Process(target=_send, args=(work, theirs), daemon=True)  # it ends with this one at the latest
        try:
            process.start()
        except OSError:  # no room for another
            return work

    def result() -> T:
        with ours:
            try:
                done = cast(T, ours.recv())
            except EOFError:
                done = work()
        process.join()
        return done

    return result


def _may_fork() -> bool:
    """Tell whether there is a second core, and no thread here that could hold a lock which a copy would wait for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # macOS, where forks are not safe
    return cores > 1 and threading.active_count() == 1 and "torch" not in sys.modules


def _send(work: Callable[[], object], to: Connection) -> None:
    with suppress(BaseException), to:  # whatever it is happens again where it is told
        to.send(work())
