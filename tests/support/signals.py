"""Handlers of signals, put back after a test."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Put back the handlers of all signals that submitit listens to."""
    numbers = (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
