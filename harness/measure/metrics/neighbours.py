"""Which samples lie in whose balls, and which real image is nearest to each. Distances are squared, float64."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import UserError

NEIGHBOURHOOD = 3  # of precision and recall, as in ADM's suite and Kynkäänniemi et al. 2019
DENSITY_NEIGHBOURHOOD = 5  # of density and coverage, as in Naeem et al. 2020
BLOCK = 4096  # rows of the other side that exist in float64 at once: 67 MB of 2,048 features
CHUNK = 1000  # rows of the matrix of distances that exist at once: 400 MB against 50,000 samples
# A copy of a ball's own k-th neighbour lies on its edge, where rounding would decide: the matrix product that makes
# the distances rounds differently for batches of different sizes. This is wider than that, and narrower than data.
EDGE = 1e-9
SAME = 1e-13  # of the largest square of a row's length: distances below it are rounding errors of none
# What to do where there are too few samples of a side.
MORE = {"generated": "draw more", "reference": "name a --reference of more images"}


@dataclass(frozen=True)
class Manifold:
    """Samples (N, D) with the squared distances (N, 5) to their nearest neighbours, ascending, and the nearest (N,)."""

    features: np.ndarray
    radii: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True)
class Nearest:
    """Of each generated sample the nearest reference sample (N,), and the squared distance to it (N,)."""

    index: np.ndarray
    distance: np.ndarray


def manifold(features: np.ndarray, side: str = "generated") -> Manifold:
    """Return the samples with the distances to their neighbours; a sample is not its own.

    side: whose they are, a key of `MORE`.

    Raises:
        UserError: fewer than six samples.
    """
    k = DENSITY_NEIGHBOURHOOD
    if len(features) <= k:
        raise UserError(f"{len(features)} {side} samples; neighbourhoods need at least {k + 1}: {MORE[side]}")
    radii, nearest = [], []
    for rows, d in distances(features, features):
        d[torch.arange(len(d)), torch.arange(rows.start, rows.stop)] = torch.inf
        smallest = d.topk(k, largest=False)
        radii.append(smallest.values)
        nearest.append(smallest.indices[:, 0])
    return Manifold(features, torch.cat(radii).numpy(), torch.cat(nearest).numpy())


def neighbour_metrics(generated: Manifold, reference: Manifold) -> tuple[dict[str, float], Nearest]:
    """Return precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020); who is nearest.

    Precision is the share of generated samples in the closed ball, out to the third neighbour, of any reference
    sample; recall the same with the sides exchanged. Density is how many reference balls, open and out to the fifth
    neighbour, hold a generated sample, over five: 1 is expected for equal laws, and it may exceed 1. Coverage is the
    share of those balls that hold any.
    """
    third, fifth = NEIGHBOURHOOD - 1, DENSITY_NEIGHBOURHOOD - 1
    N, M = len(generated.features), len(reference.features)
    precise = within = 0
    recalled, covered = torch.zeros(2, M, dtype=torch.bool)
    balls, dense = (torch.from_numpy(reference.radii[:, k]) for k in (third, fifth))
    indices, values = [], []
    for rows, d in distances(generated.features, reference.features):
        own = torch.from_numpy(generated.radii[rows, third])[:, None]
        precise += int((d <= balls * (1 + EDGE)).any(1).sum())
        recalled |= (d <= own * (1 + EDGE)).any(0)
        inside = d < dense * (1 - EDGE)
        within += int(inside.sum())
        covered |= inside.any(0)
        least = d.min(1)
        indices.append(least.indices)
        values.append(least.values)
    shares = {
        "precision": precise / N,
        "recall": int(recalled.sum()) / M,
        "density": within / (DENSITY_NEIGHBOURHOOD * N),
        "coverage": int(covered.sum()) / M,
    }
    return shares, Nearest(torch.cat(indices).numpy(), torch.cat(values).numpy())


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


def closest(nearest: Nearest, reference: Manifold, count: int) -> np.ndarray:
    """Return the samples that come nearest to real images, in units of how near these are to each other."""
    own = reference.radii[nearest.index, 0]
    ratio = np.divide(nearest.distance, own, out=np.where(nearest.distance > 0, np.inf, 0.0), where=own > 0)
    return np.argsort(ratio, kind="stable")[:count]


def distances(x: np.ndarray, y: np.ndarray, unit: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of x (N, D) with their squared distances to y (M, D): (slice, (≤CHUNK, M)).

    unit: of rows of length one. A few rows at a time become float64: all at once would not fit beside the features.
    """
    rows_of = unit_rows if unit else np.float64
    parts = [slice(first, first + BLOCK) for first in range(0, len(y), BLOCK)]
    squares = torch.cat([torch.from_numpy(rows_of(y[part])).square().sum(1) for part in parts])
    for start in range(0, len(x), CHUNK):
        rows = torch.from_numpy(rows_of(x[start : start + CHUNK]))
        d = squares + rows.square().sum(1)[:, None]
        for part in parts:
            d[:, part].addmm_(rows, torch.from_numpy(rows_of(y[part])).T, alpha=-2)
        yield slice(start, start + len(rows)), F.threshold(d, SAME * float(squares.max()), 0, inplace=True)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of length one, float64; a row of zeros stays one."""
    unit = np.array(x, np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return unit
