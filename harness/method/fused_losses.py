"""Table 1's losses with their gradients written out, for a GPU: there a kernel for each step of automatic
differentiation costs more than what it computes.

Two views are stacked, so that one Gram matrix holds the distances of all rows. Values and gradients are those of
`losses`, whose letters these are, but for rounding. To be called under `full_precision`, as `losses` does.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.method.distances import ENOUGH_ROWS, ROUNDINGS, centred_gradient, centred_product, product_at_once
from harness.method.precision import full_precision

TINY = 1e-12  # the shortest row that is divided by its length, as in `torch.nn.functional.normalize`
# Of squared distances and the scale of their rounding error, both (..., N, N), and a place to write to: the loss, and
# the factor that makes ∂loss/∂‖z_i − z_j‖² of what it wrote there.
Weigh = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]


def infonce(z: Tensor, z_plus: Tensor | None, tau: float, cosine: bool) -> Tensor:
    """InfoNCE of one view (..., N, D), or of two: the mean over groups."""
    n, d = z.shape[-2:]
    sharpness = 1 / (tau * (2 if cosine else d))  # −D/τ = −sharpness ‖·‖², and 1/τ more of cosines
    # A row's distance to itself is 0, so its logarithm of a share is −log Σ exp.
    constant = 0.0 if z_plus is not None else (1 / tau if cosine else 0.0) - 2 * math.log(n)

    def weigh(square: Tensor, _: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        logits = square * -sharpness
        rivals = logits.flatten(-2) if z_plus is None else logits
        log_shares = rivals.log_softmax(-1).view_as(logits)
        torch.exp(log_shares, out=weights)
        if z_plus is not None:
            _diagonal(weights).sub_(1)
        return constant - _diagonal(log_shares).mean(), -sharpness / (rivals.numel() // rivals.shape[-1])

    return _of_pairs(z, z_plus, weigh, unit=cosine)


def hinge(z: Tensor, z_plus: Tensor | None, epsilon: float) -> Tensor:
    """Hinge of one view (..., N, D), or of two: the mean over groups."""
    n, d = z.shape[-2:]
    stretch = 1.0 if z_plus is None else math.sqrt(n / (n - 1))  # the mean over all (i, j) is then that over j ≠ i

    def weigh(square: Tensor, scale: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        coincide = square <= ROUNDINGS * torch.finfo(square.dtype).eps * scale
        root = square.masked_fill(coincide, 0).sqrt()
        below = torch.rsub(root, stretch * epsilon, alpha=stretch / math.sqrt(d)).relu_()
        torch.div(below, root, out=weights).masked_fill_(coincide, 0)
        if z_plus is not None:  # the pairs that attract
            torch.mul(_diagonal(root), math.sqrt(n / d), out=_diagonal(below))
            _diagonal(weights).fill_(-n / (stretch * math.sqrt(d)))
        return below.square().mean(), -stretch / (math.sqrt(d) * square.numel())

    return _of_pairs(z, z_plus, weigh)


def covariance(z: Tensor, z_plus: Tensor | None, standardized: bool, offdiagonal: float) -> Tensor:
    """Covariance of one view (..., N, D), or of two: the mean over groups."""
    loss: Tensor = (
        _Covariance.apply(z, standardized)
        if z_plus is None
        else _CrossCovariance.apply(z, z_plus, standardized, offdiagonal)
    )
    return loss


def _diagonal(pairs: Tensor) -> Tensor:
    return pairs.diagonal(dim1=-2, dim2=-1)


def _at_least_float32(z: Tensor) -> torch.dtype:
    return torch.promote_types(z.dtype, torch.float32)


def _of_pairs(z: Tensor, z_plus: Tensor | None, weigh: Weigh, unit: bool = False) -> Tensor:
    loss: Tensor = _OfPairs.apply(z, z_plus, weigh, unit)
    return loss


class _OfPairs(torch.autograd.Function):
    """A loss of the squared distances of rows, or of the rows of one view to those of the other; unit: of the rows
    divided by their lengths."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_plus: Tensor | None, weigh: Weigh, unit: bool) -> Tensor:
        rows, pairs = _rows(z, z_plus)
        length = None
        if unit:
            length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min_(TINY)
            rows = rows / length
        offset = rows[..., :ENOUGH_ROWS, :].mean(-2, keepdim=True)
        products = centred_product(rows, offset)
        norms = _diagonal(products)
        scale = norms[..., :, None] + norms[..., None, :]
        square = torch.add(scale, products, alpha=-2)
        weights = torch.empty_like(square) if z_plus is None else torch.zeros_like(square)
        loss, factor = weigh(square[pairs], scale[pairs], weights[pairs])
        ctx.save_for_backward(rows, offset, _laplacian(weights, factor), length)
        ctx.dtype, ctx.views = z.dtype, 1 if z_plus is None else 2
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, offset, laplacian, length = ctx.saved_tensors
        with full_precision(rows.device.type):
            result = centred_gradient(laplacian * gradient, rows, offset)
        if length is None:
            views = [view.to(ctx.dtype) for view in result.chunk(ctx.views, -2)]
        else:  # what lies along a row changes its length alone
            result = result.addcmul_(rows, (rows * result).sum(-1, keepdim=True), value=-1)
            chunks = zip(result.chunk(ctx.views, -2), length.chunk(ctx.views, -2), strict=True)
            views = [torch.div(*chunk, out=chunk[0].new_empty(chunk[0].shape, dtype=ctx.dtype)) for chunk in chunks]
        return views[0], views[1] if ctx.views == 2 else None, None, None


def _rows(z: Tensor, z_plus: Tensor | None) -> tuple[Tensor, tuple[Any, ...]]:
    """All rows, and where among the pairs of these those of the loss are."""
    dtype, n = _at_least_float32(z), z.shape[-2]
    if z_plus is None:
        return z.to(dtype), (...,)
    rows = z.new_empty((*z.shape[:-2], 2 * n, z.shape[-1]), dtype=dtype)
    return torch.cat([z, z_plus], -2, out=rows), (..., slice(n), slice(n, None))


def _laplacian(weights: Tensor, factor: float) -> Tensor:
    """The matrix that makes the gradient of rows of the rows, for factor · weights as that of their squared
    distances."""
    both = weights + weights.mT
    total = both.sum(-1)
    both.mul_(-2 * factor)
    _diagonal(both).add_(total, alpha=2 * factor)
    return both


class _Covariance(torch.autograd.Function):
    """E_{m,n}[Cov_mn²], by the Gram matrix of the normalised features."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, standardized: bool) -> Tensor:
        features, scale = _normalized(z.to(_at_least_float32(z)), standardized)
        products = product_at_once(features)
        ctx.save_for_backward(features, scale, products)
        ctx.dtype, ctx.factor = z.dtype, 1 / (products[..., 0, 0].numel() * z.shape[-2] ** 2 * z.shape[-1] ** 2)
        return products.square().sum() * ctx.factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features, scale, products = ctx.saved_tensors
        with full_precision(features.device.type):
            result = products @ features
        return _unnormalized(result, features, scale, gradient * (4 * ctx.factor)).to(ctx.dtype), None


class _CrossCovariance(torch.autograd.Function):
    """E_m[(1 − C_mm)²] + w E_{m≠n}[C_mn²], C the cross-covariance of two views."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_plus: Tensor, standardized: bool, offdiagonal: float) -> Tensor:
        n, d = z.shape[-2:]
        assert d >= 2, "m ≠ n needs two features"
        groups = z[..., 0, 0].numel()
        both = torch.stack([z, z_plus], out=z.new_empty((2, *z.shape), dtype=_at_least_float32(z)))
        features, scale = _normalized(both, standardized)
        products = product_at_once(features)
        alone = (features[0] * features[1]).mean(-2, keepdim=True)  # C_mm
        share = offdiagonal / (d - 1)
        half_slope = alone * (1 - share) - 1  # (1 − C_mm)² − share C_mm² is 1 + C_mm (half_slope − 1)
        total = (products[0] * products[1]).sum()  # n² Σ C_mn²
        ctx.save_for_backward(features, scale, products.flip(0), half_slope)
        ctx.dtype, ctx.ratio, ctx.factor = z.dtype, share / n, 2 / (groups * d * n)
        return (alone * (half_slope - 1)).mean() + total * (share / (groups * d * n**2)) + 1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, scale, products, half_slope = ctx.saved_tensors
        with full_precision(features.device.type):
            result = (products * ctx.ratio) @ features
        result.addcmul_(features.flip(0), half_slope)
        result = _unnormalized(result, features, scale, gradient * ctx.factor).to(ctx.dtype)
        return result[0], result[1], None, None


def _normalized(z: Tensor, standardized: bool) -> tuple[Tensor, Tensor | None]:
    """Features as in `losses`, and what they were multiplied with."""
    mean = z.mean(-2, keepdim=True)
    centered = z - mean
    if not standardized:
        return centered, None
    variance = centered.square().mean(-2, keepdim=True)
    constant = variance <= (ROUNDINGS * torch.finfo(z.dtype).eps * mean).square()
    scale = variance.rsqrt().masked_fill_(constant, 0)
    return centered.mul_(scale), scale


def _unnormalized(gradient: Tensor, features: Tensor, scale: Tensor | None, factor: Tensor) -> Tensor:
    """The gradient before features were normalised, times a factor."""
    if scale is not None:
        gradient = gradient.addcmul_(features, (gradient * features).mean(-2, keepdim=True), value=-1)
        factor = scale * factor
    # By formula its mean over the group is 0; by rounding it is not where all rows share much.
    return (gradient - gradient.mean(-2, keepdim=True)).mul_(factor)
