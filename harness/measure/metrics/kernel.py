"""KID and CMMD: kernel distances between two sets of features.

`generated` (N, D) comes first and `reference` (M, D) second, which is torch-fidelity's order.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.measure.metrics.frechet import ROWS
from harness.measure.metrics.pairs import Block
from harness.measure.workspace import CPU, Arrays

KID_SUBSETS = 100
CMMD_SIGMA = 10
SEED = 2020


def kid_subset_size(generated: int, reference: int) -> int:
    """Return the size of KID's subsets: 1,000, the usual, or half of the smaller set.

    The estimate is unbiased at any size. Were a subset the whole set, its spread would not see the choice of samples.
    """
    return max(2, min(1000, generated // 2, reference // 2))


def kid(
    generated: np.ndarray, reference: np.ndarray, size: int | None = None, device: torch.device = CPU
) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018): mean and spread over 100 random subsets of the unbiased MMD².

    The kernel is (x·y/D + 1)³. The subsets, of `kid_subset_size` rows or of `size`, are the same in every call and
    those of torch-fidelity.
    """
    size = size or kid_subset_size(len(generated), len(reference))
    rng = np.random.RandomState(SEED)
    estimates = []
    for _ in range(KID_SUBSETS):
        subsets = (x[rng.choice(len(x), size, replace=False)] for x in (generated, reference))
        estimates.append(_squared_mmd(*(_float64(x, device) for x in subsets)))
    return float(np.mean(estimates)), float(np.std(estimates))


def _float64(x: np.ndarray, device: torch.device) -> Any:
    """Return rows for `_squared_mmd`: a processor's as an array, of whose product with itself NumPy makes one half."""
    return np.asarray(x, np.float64) if device.type == "cpu" else torch.from_numpy(x).to(device).double()


def _squared_mmd(x: Any, y: Any) -> float:
    """Unbiased MMD² of two sets of as many rows (Gretton et al. 2012, eq. 3)."""
    n, D = x.shape
    within = sum(float(k.sum() - k.trace()) for k in ((x @ x.T / D + 1) ** 3, (y @ y.T / D + 1) ** 3))
    return within / (n * (n - 1)) - 2 * float(((x @ y.T / D + 1) ** 3).mean())


def within_less_across(generated: np.ndarray, reference: np.ndarray) -> float:
    """Unbiased MMD² of all pairs of KID's kernel, less the mean kernel within the reference: (N, D), (M, D)."""
    x, y = (np.asarray(features, np.float64) for features in (generated, reference))
    (N, D), within, across = x.shape, 0.0, 0.0
    for rows in np.array_split(x, N // ROWS + 1):
        within += float(((rows @ x.T / D + 1) ** 3).sum()) - float((((rows**2).sum(1) / D + 1) ** 3).sum())
        across += float(((rows @ y.T / D + 1) ** 3).sum())
    return within / (N * (N - 1)) - 2 * across / (N * len(y))


def cmmd(generated: float, reference: float, across: float) -> float:
    """CMMD (Jayasumana et al. 2024) of any features: 1000 · MMD² of unit rows, kernel exp(−|x − y|²/(2 · 10²)).

    The estimate is its authors' code's, the biased one: all pairs, each row with itself as well. Of the kernel's means
    over the pairs within the generated samples, within the reference, and across.
    """
    return 1000 * (generated + reference - 2 * across)


class MeanKernel:
    """The sums of CMMD's kernel over the blocks of a part."""

    def __init__(self, part: slice) -> None:
        self.sums: list[Tensor] = []

    def add(self, block: Block) -> None:
        """Take a block in."""
        self.sums.append(block.unit_distances.mul(-1 / (2 * CMMD_SIGMA**2)).exp_().sum())

    def result(self) -> Arrays:
        """Return the sums (blocks,)."""
        return {"kernel": torch.stack(self.sums).cpu().numpy()}


def mean_kernel(parts: Mapping[str, Sequence[np.ndarray]], rows: int, columns: int) -> float:
    """Return the mean of the kernel over all pairs, of what `MeanKernel` has found of their parts."""
    return math.fsum(np.concatenate(parts["kernel"]).tolist()) / (rows * columns)
