"""Fréchet distances: of all samples, extrapolated to infinitely many, and class by class.

Means and covariances are gathered batch by batch, in float64, on the device that the rows lie on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from harness.measure.workspace import CPU, Arrays

EXTRAPOLATION_POINTS = 15
EXTRAPOLATION_SEED = 2020
NOTHING = torch.zeros(())  # the sum of no rows
ROWS = 4096  # rows that are turned into float64 at once
# Of a Cholesky factor's diagonal, smallest to largest, squared. Below it a covariance has directions whose variance is
# rounding, and the product of two has eigenvalues that are, of which each root is 1e-8 of the largest.
WELL_CONDITIONED = 1e-12


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D), float64; `count` is None where a file does not say it."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None


@dataclass
class Moments:
    """Sums over rows about an early row, from which mean and covariance follow; those of several sets of rows add up.

    About a point among the rows the squares stay as small as the variances, so that no digits cancel.
    """

    count: int = 0
    centre: Tensor | None = None  # (D,)
    sum: Tensor = NOTHING  # about the centre, (D,)
    square: Tensor = NOTHING  # about the centre, (D, D)

    def update(self, rows: Tensor) -> None:
        """Add rows (B, D)."""
        rows = rows.detach().double()
        if self.centre is None:
            self.centre = rows[0].clone()
            self.sum, self.square = torch.zeros_like(self.centre), rows.new_zeros(rows.shape[1], rows.shape[1])
        rows = rows - self.centre
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.square.addmm_(rows.T, rows)

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums over the rows of both."""
        if self.centre is None or other.centre is None:
            return self if other.centre is None else other
        shift = other.centre - self.centre  # Σ(x + s)(x + s)ᵀ = Σxxᵀ + (Σx)sᵀ + s(Σx)ᵀ + n ssᵀ
        cross = torch.outer(other.sum, shift)
        square = self.square + (other.square + cross + cross.T + other.count * torch.outer(shift, shift))
        return Moments(self.count + other.count, self.centre, self.sum + (other.sum + other.count * shift), square)

    def statistics(self) -> Statistics:
        """Return mean and covariance.

        Raises:
            UserError: of fewer than two rows, or of rows that are not finite.
        """
        if self.count < 2 or self.centre is None:
            raise UserError(f"{self.count} images; a covariance needs at least 2")
        mean = self.sum / self.count
        covariance = (self.square - self.count * torch.outer(mean, mean)) / (self.count - 1)
        if not covariance.isfinite().all():
            raise UserError("features are not finite; no distance can be taken")
        return Statistics((mean + self.centre).cpu().numpy(), covariance.cpu().numpy(), self.count)

    def arrays(self) -> Arrays:
        """Return the sums as arrays for a file."""
        assert self.centre is not None
        tensors = {"centre": self.centre, "sum": self.sum, "square": self.square}
        return {"count": np.array(self.count), **{name: tensor.cpu().numpy() for name, tensor in tensors.items()}}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> "Moments":
        """Return the sums of `arrays`."""
        tensors = (torch.from_numpy(arrays[name]) for name in ("centre", "sum", "square"))
        return cls(int(arrays["count"]), *tensors)


def moments(features: np.ndarray, device: torch.device = CPU) -> Moments:
    """Return the sums over features (N, D), made on a device."""
    sums = Moments()
    for start in range(0, len(features), ROWS):
        sums.update(torch.from_numpy(features[start : start + ROWS]).to(device))
    return sums


def statistics(features: np.ndarray, device: torch.device = CPU) -> Statistics:
    """Return mean and covariance of features (N, D), made on a device.

    Raises:
        UserError: as `Moments.statistics`.
    """
    return moments(features, device).statistics()


def covariance_fault(covariance: np.ndarray, rounding: float = 0.0) -> str:
    """Say why a finite matrix (D, D) is no covariance: not symmetric, or a negative variance; "" where it is one.

    rounding: relative, of the numbers that it was stored as. Up to ten times that, at least 1e-4, of the largest
    variance is taken for rounding: others compute covariances of many thousands of rows in float32.
    """
    largest = float(np.abs(covariance).max())
    tolerance = max(1e-4, 10 * rounding) * largest
    if float(np.abs(covariance - covariance.T).max()) > tolerance:
        return "it is not symmetric"
    # With all eigenvalues above −tolerance, and only then, the shifted matrix has a Cholesky factor.
    shifted = torch.from_numpy(covariance + tolerance * np.eye(len(covariance)))
    if largest and torch.linalg.cholesky_ex(shifted).info:
        return "it has directions of negative variance"
    return ""


def frechet_distance(a: Statistics, b: Statistics, device: torch.device = CPU) -> float:
    """Fréchet distance |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), squared as in FID (Dowson & Landau 1982)."""
    mean = float(((a.mean - b.mean) ** 2).sum())
    first, second = torch.from_numpy(a.covariance).to(device), torch.from_numpy(b.covariance).to(device)
    return mean + float(first.trace() + second.trace()) - 2 * trace_of_root(first, second)


def trace_of_root(a: Tensor, b: Tensor) -> float:
    """Return tr((Σ₁Σ₂)^½) of covariances (D, D): the sum of the singular values of A₁ᵀA₂, where Σ = AAᵀ.

    For Σ₁Σ₂ = A₁A₁ᵀA₂A₂ᵀ has the eigenvalues of MMᵀ, M = A₁ᵀA₂, and their roots are M's singular values.

    Where both are well conditioned, A₁ is a Cholesky factor and the squares of the singular values are eigenvalues of
    A₁ᵀΣ₂A₁, which is fastest. Elsewhere (fewer images than dimensions, features that never fire) squares would lose
    half the digits of the small ones: then the factors are made of eigenvectors, without those of no variance.
    """
    lower = _cholesky(a)
    if lower is not None and _cholesky(b) is not None:
        return float(torch.linalg.eigvalsh(lower.T @ b @ lower).clamp(min=0).sqrt().sum())
    return float(torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum())


def _cholesky(covariance: Tensor) -> Tensor | None:
    """Lower factor of a covariance; None where it is not well conditioned."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    ratio = (factor.diagonal().min() / factor.diagonal().max()) ** 2
    return None if failed or ratio < WELL_CONDITIONED else factor


def _factor(covariance: Tensor) -> Tensor:
    """Return A (D, R) with Σ = AAᵀ, of rank R: directions whose variance is rounding are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    significant = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return vectors[:, significant] * values[significant].sqrt()


def fid_by_count(generated: np.ndarray, reference: Statistics, device: torch.device = CPU) -> dict[int, float]:
    """Return count → FID of so many samples, for 15 counts evenly spaced up to all N; the mean over disjoint draws.

    Features (N, D). The smallest count is N/10, at least 2D; with 50,000 samples of Inception's features the counts
    are those of Chong & Forsyth 2020, who draw once for each. The draws are the same in every call.
    """
    N, D = generated.shape
    rng = np.random.RandomState(EXTRAPOLATION_SEED)
    points = {}
    for count in np.linspace(max(N // 10, 2 * D), N, EXTRAPOLATION_POINTS).astype(int).tolist():
        draws = np.split(rng.permutation(N)[: N // count * count], N // count)
        drawn = (statistics(generated[np.sort(i)], device) for i in draws)
        points[count] = float(np.mean([frechet_distance(part, reference, device) for part in drawn]))
    return points


def fid_infinity(points: dict[int, float]) -> float:
    """Return the Fréchet distance at 1/N = 0 of the least-squares line through (1/N, FID) (Chong & Forsyth 2020)."""
    return float(np.polyfit([1 / count for count in points], list(points.values()), 1)[1])


def fid_by_class(
    generated: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    reference_labels: np.ndarray,
    device: torch.device = CPU,
) -> dict[int, float]:
    """Return the Fréchet distance of each class that both have: features (N, D), labels (N,), and the reference's.

    Raises:
        UserError: as `Moments.statistics`.
    """
    sides, classes = ((generated, labels), (reference, reference_labels)), np.intersect1d(labels, reference_labels)
    distances = {}
    for label in classes.tolist():
        ours, theirs = (statistics(x[y == label], device) for x, y in sides)
        distances[label] = frechet_distance(ours, theirs, device)
    return distances


def too_few(labels: np.ndarray, features: int, whose: str) -> str:
    """Say why there is no FID by class: with no more images than features, a covariance is singular; "" if not so."""
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() > features:
        return ""
    return f"{whose}: {counts.min()} images in the smallest of {len(counts)} classes, and {features} features need more"
