"""In which precision torch multiplies matrices of float32, and convolves, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set `torch.set_float32_matmul_precision`, and put back what was."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def float32_arithmetic(tf32: bool = False) -> Iterator[None]:
    """Have a GPU multiply float32 in float32 or in TF32, also in convolutions, where torch does the latter unless told.

    What was set is set again in the end.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        with matmul_precision("high" if tf32 else "highest"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Matrix products of float32 in float32: no autocast, no TF32, no bf16 whatever the network around is allowed."""
    with matmul_precision("highest"), torch.autocast(device_type, enabled=False):
        yield
