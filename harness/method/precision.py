"""In which precision torch multiplies, for a while: matrices of float32, convolutions, and attention's own products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set `torch.set_float32_matmul_precision`, and put back what was.

    cuDNN's convolutions follow: by torch's default they are TF32 on a GPU whatever products of matrices are.
    """
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(name)
    torch.backends.cudnn.allow_tf32 = name != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention as products of matrices, and in the precision of what it is given, where torch would take float32.

    So bf16 stays bf16, as it does in the fused kernels; float32 is not touched.
    """
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Matrix products of float32 in float32: no autocast, no TF32, no bf16 whatever the network around is allowed."""
    with matmul_precision("highest"), torch.autocast(device_type, enabled=False):
        yield
