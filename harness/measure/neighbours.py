"""Precision, recall, density and coverage: which samples lie in whose balls. Distances are squared, float64."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import UserError

NEIGHBOURHOOD = 3  # of precision and recall, as in ADM's suite and Kynkäänniemi et al. 2019
DENSITY_NEIGHBOURHOOD = 5  # of density and coverage, as in Naeem et al. 2020
CHUNK = 500  # rows of the matrix of distances that exist at once: 200 MB against 50,000 samples
# A copy of a ball's own k-th neighbour lies on its edge, where rounding would decide: the matrix product that makes
# the distances rounds differently for batches of different sizes. This is wider than that, and narrower than data.
EDGE = 1e-9
SAME = 1e-13  # of the largest square of a row's length: distances below it are rounding errors of none


@dataclass(frozen=True)
class Manifold:
    """Samples (N, D) with the squared distances (N, 5) to their nearest neighbours, ascending."""

    features: np.ndarray
    radii: np.ndarray


def manifold(features: np.ndarray) -> Manifold:
    """Return the samples with the distances to their neighbours; a sample is not its own.

    Raises:
        UserError: fewer than six samples.
    """
    k = DENSITY_NEIGHBOURHOOD
    if len(features) <= k:
        raise UserError(f"{len(features)} samples; neighbourhoods need at least {k + 1}: draw more")
    radii = [d.topk(k + 1, largest=False).values[:, 1:] for _, d in distances(features, features)]
    return Manifold(features, torch.cat(radii).numpy())


def neighbour_metrics(generated: Manifold, reference: Manifold) -> dict[str, float]:
    """Return precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

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
    for rows, d in distances(generated.features, reference.features):
        own = torch.from_numpy(generated.radii[rows, third])[:, None]
        precise += int((d <= balls * (1 + EDGE)).any(1).sum())
        recalled |= (d <= own * (1 + EDGE)).any(0)
        inside = d < dense * (1 - EDGE)
        within += int(inside.sum())
        covered |= inside.any(0)
    return {
        "precision": precise / N,
        "recall": int(recalled.sum()) / M,
        "density": within / (DENSITY_NEIGHBOURHOOD * N),
        "coverage": int(covered.sum()) / M,
    }


def distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of x (N, D) with their squared distances to y (M, D): (slice, (≤CHUNK, M))."""
    columns = torch.from_numpy(np.asarray(y, np.float64))
    squares = columns.square().sum(1)
    for start in range(0, len(x), CHUNK):
        rows = torch.from_numpy(np.asarray(x[start : start + CHUNK], np.float64))
        d = (squares + rows.square().sum(1)[:, None]).addmm_(rows, columns.T, alpha=-2)
        yield slice(start, start + len(rows)), F.threshold(d, SAME * float(squares.max()), 0, inplace=True)
