"""KID and CMMD: kernel distances between two sets of features.

`generated` (N, D) comes first and `reference` (M, D) second, which is torch-fidelity's order.
"""

import numpy as np

from harness.measure.metrics import neighbours
from harness.measure.metrics.frechet import ROWS

KID_SUBSETS = 100
CMMD_SIGMA = 10
SEED = 2020


def kid_subset_size(generated: int, reference: int) -> int:
    """Return the size of KID's subsets: 1,000, the usual, or half of the smaller set.

    The estimate is unbiased at any size. Were a subset the whole set, its spread would not see the choice of samples.
    """
    return max(2, min(1000, generated // 2, reference // 2))


def kid(generated: np.ndarray, reference: np.ndarray, size: int | None = None) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018): mean and spread over 100 random subsets of the unbiased MMD².

    The kernel is (x·y/D + 1)³. The subsets, of `kid_subset_size` rows or of `size`, are the same in every call and
    those of torch-fidelity.
    """
    size = size or kid_subset_size(len(generated), len(reference))
    rng = np.random.RandomState(SEED)
    estimates = []
    for _ in range(KID_SUBSETS):
        subsets = (x[rng.choice(len(x), size, replace=False)] for x in (generated, reference))
        estimates.append(_squared_mmd(*(np.asarray(x, np.float64) for x in subsets)))
    return float(np.mean(estimates)), float(np.std(estimates))


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
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


def cmmd(generated: np.ndarray, reference: np.ndarray) -> float:
    """CMMD (Jayasumana et al. 2024) of any features: 1000 · MMD² of unit rows, kernel exp(−|x − y|²/(2 · 10²)).

    The estimate is its authors' code's, the biased one: all pairs, each row with itself as well.
    """
    x, y = generated, reference
    return 1000 * (_mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))


def _mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of the kernel over all pairs of unit rows."""
    sums = (float(d.mul_(-1 / (2 * CMMD_SIGMA**2)).exp_().sum()) for _, d in neighbours.distances(x, y, unit=True))
    return sum(sums) / (len(x) * len(y))
