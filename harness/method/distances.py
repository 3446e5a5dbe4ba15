"""Distances between the rows of a batch, read off its Gram matrix: one matrix product forward, one backward.

For N rows of D features this is far cheaper than `torch.pdist` and, because the batch is centred first, as exact: a
mean shared by all rows would otherwise drown the differences that a distance is made of.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.method.precision import full_precision

# A squared distance below this many units of rounding of ‖z_i‖² + ‖z_j‖² cannot be told from zero in a Gram matrix.
ROUNDINGS = 16
# Sums over features are taken in stretches that fit a cache: faster than at once, and with half the error of float32.
STRETCH = 4_096
# The mean of so many rows removes what all rows share as well as the mean of all, and costs no pass over the batch.
ENOUGH_ROWS = 8
WORTH_HALVING = 64  # rows; below this, two small products cost more than the work they save


def _centred_stretches(z: Tensor, offset: Tensor) -> Iterator[Tensor]:
    """Z − offset, a stretch of features at a time: it stays in the cache, and the whole never stands in memory."""
    for part, mean in zip(z.split(STRETCH, -1), offset.split(STRETCH, -1), strict=True):
        yield part - mean


def _symmetric_product(z: Tensor) -> Tensor:
    """Z Zᵀ as its upper rows and its lower right corner, which is three quarters of the work where N is large."""
    half = z.shape[-2] // 2
    if half < WORTH_HALVING:
        return z @ z.mT
    upper, corner = z[..., :half, :] @ z.mT, z[..., half:, :] @ z[..., half:, :].mT
    return torch.cat([upper, torch.cat([upper[..., half:].mT, corner], -1)], -2)


class _Gram(torch.autograd.Function):
    """(Z − offset)(Z − offset)ᵀ for a constant offset.

    Plain autograd would keep the centred batch, multiply twice on the way back, and do so in whatever precision is
    allowed by then.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(z, offset)
        with full_precision(z.device.type):
            return torch.stack([_symmetric_product(part) for part in _centred_stretches(z, offset)]).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        z, offset = ctx.saved_tensors
        symmetric, result = gradient + gradient.mT, torch.empty_like(z)
        with full_precision(z.device.type):
            for out, part in zip(result.split(STRETCH, -1), _centred_stretches(z, offset), strict=True):
                torch.matmul(symmetric, part, out=out)
        return result, None


class _Product(torch.autograd.Function):
    """A Bᵀ for two different batches, both passes in full precision."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        stretches = zip(a.split(STRETCH, -1), b.split(STRETCH, -1), strict=True)
        with full_precision(a.device.type):
            return torch.stack([left @ right.mT for left, right in stretches]).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        with full_precision(a.device.type):
            return gradient @ b, gradient.mT @ a


def gram(z: Tensor, other: Tensor | None = None) -> Tensor:
    """Z Zᵀ, or Z Otherᵀ: (..., N, D) → (..., N, N), in the precision of the inputs, once differentiable."""
    product: Tensor = _Gram.apply(z, torch.zeros_like(z[..., :1, :])) if other is None else _Product.apply(z, other)
    return product


def _square_and_scale(z: Tensor, other: Tensor | None) -> tuple[Tensor, Tensor]:
    """‖z_i − z_j‖² and ‖z_i‖² + ‖z_j‖² (of the centred rows), the scale of its rounding error: two (..., N, N)."""
    # Distances do not change when all rows move together, so the offset is a constant: it needs no gradient.
    offset = z.detach()[..., :ENOUGH_ROWS, :].mean(-2, keepdim=True)
    if other is None:
        products = _Gram.apply(z, offset)
        left = right = products.diagonal(dim1=-2, dim2=-1)
    else:
        z, other = z - offset, other - offset
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
