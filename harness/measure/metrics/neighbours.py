"""Which samples lie in whose balls, and which real image is nearest to each. Distances are squared, float64."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from harness.measure.metrics.kernel import MeanKernel, mean_kernel
from harness.measure.metrics.pairs import Block, over_pairs, points
from harness.measure.workspace import Arrays, Workspace

NEIGHBOURHOOD = 3  # of precision and recall, as in ADM's suite and Kynkäänniemi et al. 2019
DENSITY_NEIGHBOURHOOD = 5  # of density and coverage, as in Naeem et al. 2020
# A copy of a ball's own k-th neighbour lies on its edge, where rounding would decide: the matrix product that makes
# the distances rounds differently for batches of different sizes. This is wider than that, and narrower than data.
EDGE = 1e-9
PART_SEED = 2020
# What to do where there are too few samples of a side.
MORE = {"generated": "draw more", "reference": "name a --reference of more images"}


@dataclass(frozen=True)
class Manifold:
    """Samples (N, D) with the squared distances (N, 5) to their nearest neighbours, ascending, and the nearest (N,).

    kernel: the mean of CMMD's kernel over all of their pairs.
    """

    features: np.ndarray
    radii: np.ndarray
    nearest: np.ndarray
    kernel: float


@dataclass(frozen=True)
class Nearest:
    """Of each generated sample the nearest reference sample (N,), and the squared distance to it (N,)."""

    index: np.ndarray
    distance: np.ndarray


class _Closest:
    """Of each row of a part the `count` smallest distances, ascending, and to which rows of y; own: not to itself."""

    def __init__(self, part: slice, device: torch.device, count: int, own: bool = False) -> None:
        self.part, self.own = part, own
        size = (part.stop - part.start, count)
        self.values = torch.full(size, torch.inf, dtype=torch.float64, device=device)
        self.indices = torch.zeros(size, dtype=torch.long, device=device)

    def add(self, block: Block) -> None:
        """Take a block in."""
        rows, d = block.rows, block.distances
        if self.own:
            d = _without_diagonal(d, block.columns.start - block.start - rows.start)
        count = self.values.shape[1]
        least = d.topk(min(count, d.shape[1]), largest=False)
        values = torch.cat([self.values[rows], least.values], 1)
        indices = torch.cat([self.indices[rows], least.indices + block.columns.start], 1)
        self.values[rows], order = values.topk(count, largest=False)
        self.indices[rows] = indices.gather(1, order)

    def result(self) -> Arrays:
        """Return distances (n, count) and indices (n, count)."""
        return {"distances": self.values.cpu().numpy(), "indices": self.indices.cpu().numpy()}


def _without_diagonal(d: Tensor, shift: int) -> Tensor:
    """Return distances of rows i with columns j, those with i = j + shift at infinity."""
    if -d.shape[1] < shift < d.shape[0]:
        d = d.clone()
        d.diagonal(-shift).fill_(torch.inf)
    return d


class _Balls:
    """Which rows of x lie in balls around y, and which of y in balls around rows of x."""

    def __init__(self, part: slice, generated: Manifold, reference: Manifold, device: torch.device) -> None:
        third, fifth = NEIGHBOURHOOD - 1, DENSITY_NEIGHBOURHOOD - 1
        own, balls, dense = (
            torch.from_numpy(radii).to(device)
            for radii in (generated.radii[part, third], reference.radii[:, third], reference.radii[:, fifth])
        )
        self.own, self.balls, self.dense = own[:, None] * (1 + EDGE), balls * (1 + EDGE), dense * (1 - EDGE)
        self.precise = torch.zeros(len(own), dtype=torch.bool, device=device)
        self.recalled, self.covered = torch.zeros(2, len(balls), dtype=torch.bool, device=device)
        self.within = torch.zeros((), dtype=torch.long, device=device)

    def add(self, block: Block) -> None:
        """Take a block in."""
        d, rows, columns = block.distances, block.rows, block.columns
        inside = d < self.dense[columns]
        self.precise[rows] |= (d <= self.balls[columns]).any(1)
        self.recalled[columns] |= (d <= self.own[rows]).any(0)
        self.covered[columns] |= inside.any(0)
        self.within += inside.sum()

    def result(self) -> Arrays:
        """Return precise (n,), recalled and covered (M,), and the number of pairs within."""
        return {name: getattr(self, name).cpu().numpy() for name in ("precise", "recalled", "covered", "within")}


def manifold(features: np.ndarray, side: str = "generated", workspace: Workspace | None = None) -> Manifold:
    """Return the samples with the distances to their neighbours; a sample is not its own.

    side: whose they are, a key of `MORE`.

    Raises:
        UserError: fewer than six samples.
    """
    k, workspace = DENSITY_NEIGHBOURHOOD, workspace or Workspace()
    if len(features) <= k:
        raise UserError(f"{len(features)} {side} samples; neighbourhoods need at least {k + 1}: {MORE[side]}")
    x = points(features, workspace.device)
    closest_ = lambda part: _Closest(part, workspace.device, k, own=True)  # noqa: E731
    parts = over_pairs(x, x, [closest_, MeanKernel], workspace)
    nearest = np.concatenate(parts["indices"])[:, 0]
    return Manifold(features, np.concatenate(parts["distances"]), nearest, mean_kernel(parts, len(x), len(x)))


def part_of(count: int, size: int | None) -> np.ndarray | None:
    """Return the rows of the fixed random part of a reference, ascending: the same for each `count` and `size`.

    They are the first `size` of NumPy's `RandomState(2020).permutation(count)`. None: the part is all.
    """
    if size is None or size >= count:
        return None
    return np.sort(np.random.RandomState(PART_SEED).permutation(count)[:size])


@dataclass(frozen=True)
class Across:
    """What all pairs of generated and reference samples come to: the four shares, who is nearest, and the mean kernel;
    the shares are those of the reference's part, where it has one."""

    shares: dict[str, float]
    nearest: Nearest
    kernel: float


def across(
    generated: Manifold, reference: Manifold, part: Manifold | None = None, workspace: Workspace | None = None
) -> Across:
    """Go through all pairs of generated and reference samples, once, and through those with a part of the reference.

    Precision is the share of generated samples in the closed ball, out to the third neighbour, of any reference sample
    (Kynkäänniemi et al. 2019); recall the same with the sides exchanged. Density is how many reference balls, open and
    out to the fifth neighbour, hold a generated sample, over five: 1 is expected for equal laws, and it may exceed 1.
    Coverage is the share of those balls that hold any (Naeem et al. 2020).
    """
    workspace, balls = workspace or Workspace(), part or reference
    device = workspace.device
    x, y = points(generated.features, device), points(reference.features, device)
    nearest = lambda rows: _Closest(rows, device, 1)  # noqa: E731
    inside = lambda rows: _Balls(rows, generated, balls, device)  # noqa: E731
    parts = over_pairs(x, y, [nearest, MeanKernel, *([] if part else [inside])], workspace.within("across"))
    if part:
        parts |= over_pairs(x, points(part.features, device), [inside], workspace.within("across-part"))
    index, distance = (np.concatenate(parts[name])[:, 0] for name in ("indices", "distances"))
    return Across(_shares(parts), Nearest(index, distance), mean_kernel(parts, len(x), len(y)))


def _shares(parts: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
    precise = np.concatenate(parts["precise"])
    recalled, covered = (np.any(parts[name], axis=0) for name in ("recalled", "covered"))
    return {
        "precision": int(precise.sum()) / len(precise),
        "recall": int(recalled.sum()) / len(recalled),
        "density": int(np.sum(parts["within"])) / (DENSITY_NEIGHBOURHOOD * len(precise)),
        "coverage": int(covered.sum()) / len(covered),
    }


def memorised(nearest: Nearest, reference: Manifold) -> np.ndarray:
    """Tell which samples are nearer to their nearest real image than that image is to its own nearest: bool (N,).

    That is what Alaa et al. 2022 call not authentic. Fresh images of the same law have a share of their own:
    `mutual_share`.
    """
    own = reference.radii[nearest.index, 0]
    return (nearest.distance < own * (1 - EDGE)) | (nearest.distance == 0)


def mutual_share(samples: Manifold) -> float:
    """Return the share of samples that are the nearest of their nearest: `memorised` of each against all the others.

    For with x left out, its nearest z is nearer to x than to any other exactly where x is nearest to z.
    """
    return float((samples.radii[samples.nearest, 0] >= samples.radii[:, 0] * (1 - EDGE)).mean())


def nearest_distances(x: np.ndarray, y: np.ndarray, workspace: Workspace | None = None) -> np.ndarray:
    """Return of each row of x (N, D) the squared distance to the nearest row of y (M, D), float64 (N,)."""
    workspace = workspace or Workspace()
    closest_ = lambda rows: _Closest(rows, workspace.device, 1)  # noqa: E731
    parts = over_pairs(points(x, workspace.device), points(y, workspace.device), [closest_], workspace)
    return np.concatenate(parts["distances"])[:, 0]


def copying(generated: np.ndarray, held_out: np.ndarray) -> float:
    """Return the share of pairs of a sample and a held-out image in which the sample is nearer to its nearest training
    image; ties count half.

    generated (N,), held_out (M,): of each the distance to its nearest training image. It is 1 − Δ_T of Meehan et al.
    2020, whose test is the Mann-Whitney U of the two: fresh images of the same law have 0.5 in expectation.
    """
    ordered = np.sort(held_out)
    nearer, as_near = (len(ordered) - np.searchsorted(ordered, generated, side) for side in ("right", "left"))
    return float((nearer + as_near).mean() / (2 * len(ordered)))


def closest(nearest: Nearest, reference: Manifold, count: int) -> np.ndarray:
    """Return the samples that come nearest to real images, in units of how near these are to each other."""
    own = reference.radii[nearest.index, 0]
    ratio = np.divide(nearest.distance, own, out=np.where(nearest.distance > 0, np.inf, 0.0), where=own > 0)
    return np.argsort(ratio, kind="stable")[:count]
