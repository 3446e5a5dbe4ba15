"""FID, KID, precision and recall of features, by torch-fidelity's own functions on float64 arrays.

In all of them `generated` (N, D) comes first and `reference` (M, D) second, which is torch-fidelity's order.
"""

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError

DIRECTIONS = {"fid": "lower", "kid": "lower", "precision": "higher", "recall": "higher"}
KID_SUBSETS = 100
NEIGHBOURHOOD = 3
SEED = 2020


def fid(generated: np.ndarray, reference: np.ndarray) -> float:
    """Fréchet distance |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) of two sets of features (Heusel et al. 2017, eq. 6).

    Float64 throughout: with float32 features torch-fidelity takes the means in float32 (2e-5 of the value).

    Raises:
        UserError: a value is not finite, or fewer than two rows.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(x) for x in _checked(generated, reference, rows=2)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def kid_subset_size(generated: int, reference: int) -> int:
    """Return the size of KID's subsets: 1,000, the usual, or half of the smaller set.

    The estimate is unbiased at any size. Were a subset the whole set, its spread would not see the choice of samples.
    """
    return max(2, min(1000, generated // 2, reference // 2))


def kid(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018): mean and spread over 100 random subsets of the unbiased MMD².

    The kernel is (x·y/D + 1)³, the subsets are the same in every call, of `kid_subset_size` rows.

    Raises:
        UserError: a value is not finite, or fewer than two rows.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = kid_subset_size(len(generated), len(reference))
    result = kid_features_to_metric(
        *_checked(generated, reference, rows=2),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=size,
        rng_seed=SEED,
        verbose=False,
    )
    return result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]


def precision_recall(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Precision and recall (Kynkäänniemi et al. 2019) with the balls of the third-nearest neighbours.

    Precision is the share of generated samples inside some reference sample's ball; recall the other way round.

    Raises:
        UserError: a value is not finite, or fewer than four rows.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    result = prc_features_to_metric(
        *_checked(generated, reference, rows=NEIGHBOURHOOD + 1),
        prc_neighborhood=NEIGHBOURHOOD,
        save_cpu_ram=True,  # the same numbers, without the whole matrix of distances: 1,000 rows of it at a time
        prc_batch_size=1000,
        verbose=False,
    )
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]


def compare(generated: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return all metrics of this file by name, and `kid_std`."""
    kid_mean, kid_std = kid(generated, reference)
    precision, recall = precision_recall(generated, reference)
    return {
        "fid": fid(generated, reference),
        "kid": kid_mean,
        "kid_std": kid_std,
        "precision": precision,
        "recall": recall,
    }


def _checked(generated: np.ndarray, reference: np.ndarray, rows: int) -> list[Tensor]:
    """Return both sets as float64 tensors; a distance on features that are not finite would be no number at all."""
    for side, x in (("generated", generated), ("reference", reference)):
        if len(x) < rows:
            raise UserError(f"{len(x)} {side} samples; this metric needs at least {rows}: draw more")
        if not np.isfinite(x).all():
            raise UserError(f"{side} features are not finite in {int((~np.isfinite(x)).any(1).sum())} of {len(x)} rows")
    return [torch.from_numpy(np.asarray(x, np.float64)) for x in (generated, reference)]
