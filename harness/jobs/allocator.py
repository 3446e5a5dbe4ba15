"""How the C library hands out memory to a training on the CPU."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_KEPT = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Have the C library keep what a step frees for the next one, and tell whether it can be asked to.

    By default glibc gives every large tensor back to the system as soon as it is freed, so that each step pays again
    for pages which the system must first clear: an eighth of a bf16 step of SiT-S/2 (benchmarks/README.md). The
    process then holds its peak until it ends. Other C libraries have no such setting, and are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
