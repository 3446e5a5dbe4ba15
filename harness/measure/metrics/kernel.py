"""The numbers that features give: FID, KID, CMMD, Inception Score, Vendi score, precision and recall.

In all of them `generated` (N, D) comes first and `reference` (M, D) second, which is torch-fidelity's order.
"""

import numpy as np
import torch

from harness.errors import UserError
from harness.measure.metrics.frechet import ROWS, frechet_distance, statistics
from harness.measure.metrics.neighbours import NEIGHBOURHOOD, distances, manifold, neighbour_metrics

KID_SUBSETS = 100
SPLITS = 10
CMMD_SIGMA = 10
SEED = 2020


def fid(generated: np.ndarray, reference: np.ndarray) -> float:
    """Fréchet distance of two sets of features (Heusel et al. 2017, eq. 6), float64 throughout.

    Raises:
        UserError: a value is not finite, or fewer than two rows.
    """
    check(generated, reference, rows=2)
    return frechet_distance(statistics(generated), statistics(reference))


def kid_subset_size(generated: int, reference: int) -> int:
    """Return the size of KID's subsets: 1,000, the usual, or half of the smaller set.

    The estimate is unbiased at any size. Were a subset the whole set, its spread would not see the choice of samples.
    """
    return max(2, min(1000, generated // 2, reference // 2))


def kid(generated: np.ndarray, reference: np.ndarray, size: int | None = None) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018): mean and spread over 100 random subsets of the unbiased MMD².

    The kernel is (x·y/D + 1)³. The subsets, of `kid_subset_size` rows or of `size`, are the same in every call and
    those of torch-fidelity.

    Raises:
        UserError: a value is not finite, or fewer than two rows.
    """
    check(generated, reference, rows=2)
    size = size or kid_subset_size(len(generated), len(reference))
    rng = np.random.RandomState(SEED)
    found = []
    for _ in range(KID_SUBSETS):
        subsets = (x[rng.choice(len(x), size, replace=False)] for x in (generated, reference))
        found.append(_squared_mmd(*(np.asarray(x, np.float64) for x in subsets)))
    return float(np.mean(found)), float(np.std(found))


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

    Raises:
        UserError: a value is not finite, or no rows.
    """
    check(generated, reference, rows=1)
    x, y = generated, reference
    return 1000 * (_mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))


def _mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of the kernel over all pairs of unit rows."""
    sums = (float(d.mul_(-1 / (2 * CMMD_SIGMA**2)).exp_().sum()) for _, d in distances(x, y, _unit))
    return sum(sums) / (len(x) * len(y))


def vendi(features: np.ndarray) -> float:
    """Vendi score (Friedman & Dieng 2023): exp of the entropy of the eigenvalues of K/N, K_ij = cos(x_i, x_j).

    It is the number of samples that have nothing in common which would be as diverse. The non-zero eigenvalues of
    K = XXᵀ are those of XᵀX, which is (D, D).

    Raises:
        UserError: a value is not finite, or no rows.
    """
    check(features, features, rows=1)
    parts = (_unit(part) for part in np.array_split(features, len(features) // ROWS + 1))
    values = np.linalg.eigvalsh(sum(rows.T @ rows for rows in parts) / len(features))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one, float64; a row of zeros stays one."""
    unit = np.array(x, np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return unit


def inception_score(logits: np.ndarray) -> tuple[float, float]:
    """exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016): mean and spread over ten splits of logits (N, classes).

    The splits are torch-fidelity's: of a permutation that is the same in every call. ADM's suite splits the images as
    they come, by 5,000; for 50,000 images in random order that is the same estimate from other splits.

    Raises:
        UserError: a value is not finite, or fewer than ten rows.
    """
    check(logits, logits, rows=SPLITS)
    scores = [_split_score(logits[rows]) for rows in splits(len(logits))]
    return float(np.mean(scores)), float(np.std(scores))


def splits(count: int) -> list[np.ndarray]:
    """Return the rows of each of the Inception Score's ten splits of `count` samples."""
    order = np.random.RandomState(SEED).permutation(count)
    return [order[i * count // SPLITS : (i + 1) * count // SPLITS] for i in range(SPLITS)]


def inception_score_of(logits: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean score of logits (N, classes) of which only some rows count; each stays in its split of all N."""
    return float(np.mean([_split_score(logits[np.intersect1d(split, rows)]) for split in splits(len(logits))]))


def _split_score(logits: np.ndarray) -> float:
    log_p = torch.from_numpy(logits).double().log_softmax(1)
    log_q = log_p.logsumexp(0) - np.log(len(logits))
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean().exp())


def precision_recall(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Precision and recall with the balls of the third-nearest neighbours; see `neighbour_metrics`.

    Raises:
        UserError: a value is not finite, or too few rows.
    """
    check(generated, reference, rows=NEIGHBOURHOOD + 1)
    found, _ = neighbour_metrics(manifold(generated), manifold(reference))
    return found["precision"], found["recall"]


def check(generated: np.ndarray, reference: np.ndarray, rows: int) -> None:
    """Refuse too few rows, and values that are not finite: a distance on them would be no number at all.

    Raises:
        UserError: naming the side.
    """
    for side, x in (("generated", generated), ("reference", reference)):
        if len(x) < rows:
            raise UserError(f"{len(x)} {side} samples; this metric needs at least {rows}: draw more")
        broken = ~np.isfinite(x).all(1)
        if broken.any():
            raise UserError(f"{side} features are not finite in {int(broken.sum())} of {len(x)} rows")
