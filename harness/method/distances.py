"""Distances between the rows of a batch, read off its Gram matrix: one matrix product forward, one backward.

For N rows of D features this is far cheaper than `torch.pdist` and, because the batch is centred first, as exact: a
mean shared by all rows would otherwise drown the differences that a distance is made of.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# A squared distance below this many units of rounding of ‖z_i‖² + ‖z_j‖² cannot be told from zero in a Gram matrix.
ROUNDINGS = 16
# Sums over features are taken in stretches: at 200,000 features that halves the error of float32 and costs no time.
STRETCH = 16_384


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Matrix products of float32 in float32: no autocast, no TF32, no bf16 whatever the network around is allowed."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _inner_products(a: Tensor, b: Tensor) -> Tensor:
    stretches = zip(a.split(STRETCH, -1), b.split(STRETCH, -1), strict=True)
    with full_precision(a.device.type):
        return torch.stack([left @ right.mT for left, right in stretches]).sum(0)


class _Gram(torch.autograd.Function):
    """Z Zᵀ. Plain autograd would multiply twice on the way back, and in whatever precision is allowed by then."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return _inner_products(z, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        with full_precision(z.device.type):
            return (gradient + gradient.mT) @ z


class _Product(torch.autograd.Function):
    """A Bᵀ for two different batches, both passes in full precision."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _inner_products(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        with full_precision(a.device.type):
            return gradient @ b, gradient.mT @ a


def gram(z: Tensor, other: Tensor | None = None) -> Tensor:
    """Z Zᵀ, or Z Otherᵀ: (..., N, D) → (..., N, N), in the precision of the inputs, once differentiable."""
    product: Tensor = _Gram.apply(z) if other is None else _Product.apply(z, other)
    return product


def _square_and_scale(z: Tensor, other: Tensor | None) -> tuple[Tensor, Tensor]:
    """‖z_i − z_j‖² and ‖z_i‖² + ‖z_j‖² (of the centred rows), the scale of its rounding error: two (..., N, N)."""
    # Distances do not change when all rows move together, so the offset is a constant: it needs no gradient.
    offset = z.detach().mean(-2, keepdim=True)
    z = z - offset
    if other is None:
        products = gram(z)
        left = right = products.diagonal(dim1=-2, dim2=-1)
    else:
        other = other - offset
        products = gram(z, other)
        left, right = z.square().sum(-1), other.square().sum(-1)
    scale = left[..., :, None] + right[..., None, :]
    return (scale - 2 * products).clamp(min=0), scale


def squared_distances(z: Tensor, other: Tensor | None = None) -> Tensor:
    """‖z_i − z_j‖², or ‖z_i − other_j‖²: (..., N, D) → (..., N, N); the zero diagonal of the first form is exact."""
    return _square_and_scale(z, other)[0]


def distances(z: Tensor, other: Tensor | None = None) -> Tensor:
    """‖z_i − z_j‖, or ‖z_i − other_j‖: (..., N, D) → (..., N, N), with gradient 0 (not ∞) where rows coincide."""
    square, scale = _square_and_scale(z, other)
    resolved = square > ROUNDINGS * torch.finfo(square.dtype).eps * scale
    return torch.where(resolved, square, 1).sqrt() * resolved
