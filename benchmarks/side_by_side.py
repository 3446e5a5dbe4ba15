"""Timing of several ways to do one thing: in turn, in one process, so that what else the machine does falls on all."""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from harness.engine.allocator import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory

Arm = Callable[[int], object]
MIB = 1 << 20


@contextmanager
def memory_as_torch_finds_it() -> Iterator[None]:
    """Give large tensors back to the system as soon as they are freed, as glibc does where nobody asked otherwise.

    For what is timed as others run it; afterwards freed memory is kept again, as in every job of ours.
    """
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 32 * MIB)  # where glibc's own, moving, threshold ends up
    mallopt(M_TRIM_THRESHOLD, 64 * MIB)
    try:
        yield
    finally:
        keep_freed_memory()


def compare(arms: dict[str, Arm], rounds: int, warm_up: int = 1) -> dict[str, list[tuple[float, float]]]:
    """Call every arm with 0, 1, 2, … and return, for each round after the warm-up, its wall and CPU seconds.

    The order turns from round to round, for the first of several may fare worse.
    """
    names = list(arms)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for k in range(warm_up + rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            took = _seconds(arms[name], k)
            if k >= warm_up:
                seconds[name].append(took)
    return seconds


def print_table(seconds: dict[str, list[tuple[float, float]]], against: str) -> None:
    """Print medians, and how many times as fast as the arm `against` each is: the median over rounds."""
    print(f"{'':34}{'wall s':>9}{'CPU s':>9}{'× as fast, wall':>17}{'CPU':>7}")
    for name, taken in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        faster = [
            statistics.median(base[i] / max(own[i], 1e-9) for base, own in zip(seconds[against], taken, strict=True))
            for i in (0, 1)
        ]
        print(f"{name:34}{wall:9.3f}{cpu:9.3f}{faster[0]:17.3f}{faster[1]:7.3f}")


def _seconds(arm: Arm, k: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    arm(k)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu
