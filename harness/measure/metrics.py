"""The numbers: FID, sFID, KID, Inception Score, precision, recall, density and coverage of two sets of features.

In all of them `generated` (N, D) comes first and `reference` (M, D) second, which is torch-fidelity's order.
"""

import numpy as np
import torch

from harness.errors import UserError
from harness.measure.frechet import frechet_distance, statistics
from harness.measure.neighbours import NEIGHBOURHOOD, manifold, neighbour_metrics

DIRECTIONS = {
    "fid": "lower",
    "sfid": "lower",
    "kid": "lower",
    "inception_score": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
}
SPREADS = {"kid": "kid_std", "inception_score": "inception_score_std"}
PROTOCOLS = {  # what a name settles; data, features and counts are said beside the numbers
    "fid": "Fréchet distance of the pooled features, float64, unbiased covariances",
    "sfid": "Fréchet distance of ADM's spatial features: 7 channels of mixed_6/conv at 17×17",
    "kid": "unbiased MMD² with the kernel (x·y/D + 1)³, mean over 100 random subsets",
    "inception_score": "ten splits of a fixed permutation, logits without bias",
    "precision": "balls of the 3rd nearest neighbour",
    "recall": "balls of the 3rd nearest neighbour",
    "density": "balls of the 5th nearest neighbour",
    "coverage": "balls of the 5th nearest neighbour",
}
KID_SUBSETS = 100
SPLITS = 10
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


def inception_score(logits: np.ndarray) -> tuple[float, float]:
    """exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016): mean and spread over ten splits of logits (N, classes).

    The splits are torch-fidelity's: of a permutation that is the same in every call. ADM's suite splits the images as
    they come, by 5,000; for 50,000 images in random order that is the same estimate from other splits.

    Raises:
        UserError: a value is not finite, or fewer than ten rows.
    """
    check(logits, logits, rows=SPLITS)
    N = len(logits)
    shuffled = torch.from_numpy(logits[np.random.RandomState(SEED).permutation(N)])
    scores = []
    for split in (shuffled[i * N // SPLITS : (i + 1) * N // SPLITS] for i in range(SPLITS)):
        log_p = split.double().log_softmax(1)
        log_q = log_p.logsumexp(0) - np.log(len(split))
        scores.append(float((log_p.exp() * (log_p - log_q)).sum(1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))


def precision_recall(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Precision and recall with the balls of the third-nearest neighbours; see `neighbour_metrics`.

    Raises:
        UserError: a value is not finite, or too few rows.
    """
    check(generated, reference, rows=NEIGHBOURHOOD + 1)
    found = neighbour_metrics(manifold(generated), manifold(reference))
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
