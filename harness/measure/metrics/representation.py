"""What a set of representations is like: what a linear layer reads off it, how it is spread, what it is similar to.

Letters: N images, D features. Two views of it are measured: pooled features (N, D), the mean of a block's tokens, for
what they say of the image; and the block's flattened output (N, T·D), as the dispersive losses see it, for its spread.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.method.distances import squared_distances

PENALTY = 1.0  # of the probe's weights, ‖W‖²/2 beside the sum of all cross-entropies: scikit-learn's C = 1
NEIGHBOURS = 10  # of CKNNA, as Huh et al. and REPA have it
SHARPNESS = 2.0  # of uniformity, t = 2 in Wang & Isola
BINS = 24


def probe_accuracy(fit: Tensor, fit_labels: Tensor, held_out: Tensor, held_out_labels: Tensor) -> float:
    """Share of held-out images whose label a linear layer tells: (N, D), (N,), (M, D), (M,).

    Logistic regression on features of zero mean and unit variance (those of `fit`), by L-BFGS until it has converged:
    scikit-learn's on the CPU, the same minimum by torch's on a GPU.
    """
    mean, deviation = fit.mean(0), fit.std(0, correction=0)
    scale = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.inf)  # a constant feature says nothing
    fit, held_out = (fit - mean) / scale, (held_out - mean) / scale
    guess = _guess_by_torch if fit.is_cuda else _guess_by_sklearn
    return float((guess(fit, fit_labels, held_out) == held_out_labels).double().mean())


def _guess_by_sklearn(fit: Tensor, labels: Tensor, held_out: Tensor) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    layer = LogisticRegression(C=1 / PENALTY, max_iter=1000).fit(fit.numpy(), labels.numpy())
    return torch.from_numpy(layer.predict(held_out.numpy()))


def _guess_by_torch(fit: Tensor, labels: Tensor, held_out: Tensor) -> Tensor:
    layer = torch.zeros(fit.shape[1] + 1, int(labels.max()) + 1, dtype=fit.dtype, device=fit.device, requires_grad=True)
    descent = torch.optim.LBFGS([layer], max_iter=1000, tolerance_grad=1e-4 / len(fit), line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        descent.zero_grad()
        penalty = PENALTY * layer[1:].square().sum() / 2 / len(fit)
        value = F.cross_entropy(fit @ layer[1:] + layer[0], labels) + penalty
        value.backward()
        return value

    descent.step(loss)
    return (held_out @ layer[1:] + layer[0]).detach().argmax(1)


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of x's singular values as shares of their sum (Roy & Vetterli 2007), x (N, D) centred first.

    1 where all lie on a line, min(N − 1, D) where all directions are alike; 1 for a single point.
    """
    values = torch.linalg.svdvals(x - x.mean(0))
    shares = values / values.sum().clamp(min=torch.finfo(x.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


def linear_cka(x: Tensor, y: Tensor) -> float:
    """‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of centred features (Kornblith et al. 2019, eq. 5): (N, D), (N, E); 0 to 1."""
    x, y = x - x.mean(0), y - y.mean(0)
    own = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / own) if own > 0 else 0.0


def cknna(x: Tensor, y: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """CKA of nearest neighbours only (Huh et al. 2024): (N, D), (N, E); 1 for equal features, near 0 for unrelated.

    As its public code has it: cosine kernels, of which those pairs are kept that are neighbours in both; then the
    unbiased HSIC of Song et al. (2012), over the geometric mean of each kernel's with itself.
    """
    units = [F.normalize(features, dim=1) for features in (x, y)]
    kernels = [unit @ unit.T for unit in units]
    near = [_nearest(kernel, neighbours) for kernel in kernels]
    own = [_hsic(kernel * mask, kernel * mask) for kernel, mask in zip(kernels, near, strict=True)]
    shared = _hsic(*(kernel * (near[0] & near[1]) for kernel in kernels))
    return float(shared / (own[0] * own[1]).sqrt()) if own[0] * own[1] > 0 else 0.0


def _nearest(kernel: Tensor, neighbours: int) -> Tensor:
    """(N, N) bool: row i has True at the neighbours of i, itself not among them."""
    nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(neighbours, dim=1).indices
    return torch.zeros_like(kernel, dtype=torch.bool).scatter_(1, nearest, True)


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    """Unbiased HSIC (Song et al. 2012, eq. 5) of two kernels (N, N), whose diagonals do not enter."""
    n = len(k)
    k, m = k.clone().fill_diagonal_(0), m.clone().fill_diagonal_(0)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) * m.sum(1)).sum() / (n - 2)
    return ((k * m.T).sum() + sums) / (n * (n - 3))


class Spread(NamedTuple):
    """How flattened block outputs (N, D) lie: of images n, or of pairs p of images that went through together."""

    norms: Tensor  # (n,) ‖z‖/√D
    distances: Tensor  # (p,) ‖z_i − z_j‖/√D, as the hinge's D and, squared, InfoNCE's
    chords: Tensor  # (p,) ‖u_i − u_j‖² of the unit vectors u = z/‖z‖
    moves: Tensor  # (n,) ‖u_i − u_i⁺‖², z⁺ of the same image under other noise of the same level

    def numbers(self) -> dict[str, Any]:
        """Means, and the histogram of distances; uniformity and alignment are those of Wang & Isola (2020).

        uniformity: log E exp(−2 ‖u_i − u_j‖²), 0 where all coincide and lower where they are spread over the sphere.
        alignment: E ‖u − u⁺‖², 0 where noise moves nothing.
        """
        counts, edges = torch.histogram(self.distances.cpu().float(), BINS)
        return {
            "norm": float(self.norms.mean()),
            "distance": float(self.distances.mean()),
            "distances": {"low": float(edges[0]), "high": float(edges[-1]), "counts": counts.int().tolist()},
            "uniformity": float((-SHARPNESS * self.chords).exp().mean().log()),
            "alignment": float(self.moves.mean()),
        }


def spread(z: Tensor, z_plus: Tensor) -> Spread:
    """The spread of some images' block outputs (N, …) under two draws of noise; distances are of the first."""
    z, z_plus = z.flatten(1), z_plus.flatten(1)
    u, u_plus = F.normalize(z, dim=1), F.normalize(z_plus, dim=1)
    i, j = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    return Spread(
        norms=z.norm(dim=1) / math.sqrt(z.shape[1]),
        distances=(squared_distances(z)[i, j] / z.shape[1]).sqrt(),
        chords=squared_distances(u)[i, j],
        moves=(u - u_plus).square().sum(1),
    )


def joined_spread(parts: Sequence[Spread]) -> Spread:
    """The spread of all images, from that of some at a time."""
    return Spread(*(torch.cat(values) for values in zip(*parts, strict=True)))
