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
# Sums over features are taken in stretches: with half the error of float32. On a CPU one after the other, because a
# stretch fits its cache; elsewhere all of them as one batch of products, because each is too small for a GPU.
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


def centred_product(z: Tensor, offset: Tensor) -> Tensor:
    """(Z − offset)(Z − offset)ᵀ: (..., N, D), (..., 1, D) → (..., N, N)."""
    if z.device.type == "cpu":
        return torch.stack([_symmetric_product(part) for part in _centred_stretches(z, offset)]).sum(0)
    return product_at_once(z, offset=offset)


def centred_gradient(symmetric: Tensor, z: Tensor, offset: Tensor) -> Tensor:
    """The gradient of Z, for that of its product, added to its transpose: (..., N, N) → (..., N, D)."""
    if z.device.type != "cpu":
        return symmetric @ (z - offset)
    result = torch.empty_like(z)
    for out, part in zip(result.split(STRETCH, -1), _centred_stretches(z, offset), strict=True):
        torch.matmul(symmetric, part, out=out)
    return result


def _stacked(z: Tensor, offset: Tensor | None) -> Tensor:
    """The whole stretches of Z − offset, one behind the other in memory: (..., N, D) → (S, ..., N, STRETCH)."""
    stretches = z.unflatten(-1, (-1, STRETCH)).movedim(-2, 0)
    if offset is None:
        return stretches.contiguous()
    offset = offset.unflatten(-1, (-1, STRETCH)).movedim(-2, 0)
    return torch.sub(stretches, offset, out=z.new_empty(stretches.shape))


def product_at_once(a: Tensor, b: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
    """A Bᵀ, or (A − offset)(A − offset)ᵀ, as one batch of products of stretches, and their sum: few kernels."""
    whole = a.shape[-1] - a.shape[-1] % STRETCH
    total: Tensor | None = None
    if whole:
        left = _stacked(a[..., :whole], None if offset is None else offset[..., :whole])
        total = (left @ (left if b is None else _stacked(b[..., :whole], None)).mT).sum(0)
    if whole < a.shape[-1]:
        rest = a[..., whole:] if offset is None else a[..., whole:] - offset[..., whole:]
        product = rest @ (rest if b is None else b[..., whole:]).mT
        total = product if total is None else total + product
    assert total is not None, "no features"
    return total


class _Gram(torch.autograd.Function):
    """(Z − offset)(Z − offset)ᵀ for a constant offset.

    Plain autograd would keep the centred batch, multiply twice on the way back, and do so in whatever precision is
    allowed by then.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(z, offset)
        with full_precision(z.device.type):
            return centred_product(z, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        z, offset = ctx.saved_tensors
        with full_precision(z.device.type):
            return centred_gradient(gradient + gradient.mT, z, offset), None


class _SquaredDistances(torch.autograd.Function):
    """‖z_i − z_j‖² from the Gram matrix of Z − offset, and ‖z_i‖² + ‖z_j‖² of these, a constant.

    What plain autograd would do to (..., N, N) on the way back, by half as many kernels; to the same bits.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        with full_precision(z.device.type):
            products = centred_product(z, offset)
        norms = products.diagonal(dim1=-2, dim2=-1)
        scale = norms[..., :, None] + norms[..., None, :]
        square = _difference(scale, products)
        ctx.save_for_backward(z, offset, square)
        ctx.mark_non_differentiable(scale)
        ctx.set_materialize_grads(False)
        return square, scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, None]:
        if gradient is None:
            return None, None
        z, offset, square = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, square, 0)
        of_product = gradient * -2
        of_product.diagonal(dim1=-2, dim2=-1).add_(gradient.sum(-1) + gradient.sum(-2))
        with full_precision(z.device.type):
            return centred_gradient(of_product + of_product.mT, z, offset), None


def _difference(scale: Tensor, products: Tensor) -> Tensor:
    """‖z_i‖² + ‖z_j‖² − 2 z_i·z_j, which rounding may take below 0."""
    return torch.add(scale, products, alpha=-2).relu()


class _Product(torch.autograd.Function):
    """A Bᵀ for two different batches, both passes in full precision."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with full_precision(a.device.type):
            if a.device.type != "cpu":
                return product_at_once(a, b)
            stretches = zip(a.split(STRETCH, -1), b.split(STRETCH, -1), strict=True)
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
        square, scale = _SquaredDistances.apply(z, offset)
        return square, scale
    z, other = z - offset, other - offset
    scale = z.square().sum(-1)[..., :, None] + other.square().sum(-1)[..., None, :]
    return _difference(scale, gram(z, other)), scale


def squared_distances(z: Tensor, other: Tensor | None = None) -> Tensor:
    """‖z_i − z_j‖², or ‖z_i − other_j‖²: (..., N, D) → (..., N, N); the zero diagonal of the first form is exact."""
    return _square_and_scale(z, other)[0]


def distances(z: Tensor, other: Tensor | None = None) -> Tensor:
    """‖z_i − z_j‖, or ‖z_i − other_j‖: (..., N, D) → (..., N, N), with gradient 0 (not ∞) where rows coincide."""
    square, scale = _square_and_scale(z, other)
    resolved = square > ROUNDINGS * torch.finfo(square.dtype).eps * scale
    return torch.where(resolved, square, 1).sqrt() * resolved
