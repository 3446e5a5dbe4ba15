"""Memory that a step frees, for the next step; and what a finished piece of work holds, for the next piece."""

import atexit
import ctypes
import gc
from contextlib import suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_KEPT = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one.

    By default glibc gives every large tensor back to the system as soon as it is freed, so that each step pays again
    for pages which the system must first clear: an eighth of a bf16 step of SiT-S/2 (benchmarks/README.md). The
    process then holds its peak until it ends. Other C libraries have no such setting, and are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, -1)


@cache
def keep_imports() -> None:
    """Leave what is there now out of the collector's sight, once in a process, before its first piece of work.

    That is the half a million objects of imported modules, which never end, and looking at them all takes longer than a
    small training.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries tell at the end of what they take for leaks


def release_memory() -> None:
    """Give back what finished work holds: a network that was trained lies in circles of references, and a GPU's memory
    that was freed stays with torch."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # nothing where there is no GPU
