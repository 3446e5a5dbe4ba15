"""How far a metric of one model would move with other samples of it: intervals by the delete-a-group jackknife.

The samples are cut into 20 random groups, and each metric is taken again without each of them. What an interval
covers is the metric's mean over sets of as many samples of the same model, against the same reference. FID's bias at
this number of samples is part of that mean: all replicates have nearly the same, so that it cancels in their spread,
where the repeated samples of a bootstrap would add to it. By Efron and Stein's inequality (Annals of Statistics 9,
1981) the estimated variance of any metric is in the mean, to a twentieth, no smaller than that of as many samples as a
replicate has; it is larger where a metric is far from a sum over samples, as recall is.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

from harness.errors import UserError
from harness.measure.extractors.extractor import Features
from harness.measure.metrics import diversity, frechet, kernel, neighbours
from harness.measure.reference import Reference
from harness.measure.workspace import CPU, Workspace
from harness.metric_definitions import OF_OTHER_FEATURES, SPREADS, base, spread_of

GROUPS = 20
STUDENT = float(stdtrit(GROUPS - 1, 0.975))  # without scipy.stats, whose import takes a second of each job
SEED = 2021  # not that of the Inception Score's splits, which its groups would be parts of
RARE = 10  # images behind a share, or behind its complement, below which its error is not symmetric
SHARES = {"precision": "samples", "memorisation": "samples", "recall": "reference", "coverage": "reference"}
ABSENT = {
    "sfid": "of the spatial features sums alone are kept",
    "fid_infinity": "each replicate would be a whole extrapolation",
    "class_diversity": "of the maps each class's latest alone are kept",
}
OWN_NAMES = {foreign: name for name, foreign in OF_OTHER_FEATURES.items()}


def intervals(
    result: dict[str, Any], generated: Features, reference: Reference, device: torch.device = CPU
) -> dict[str, Any]:
    """Return {level, method, found: {name: [low, high]}, unavailable: {name: why}} for the metrics of `compare`.

    result: what `compare` made of the same features and reference. It takes 20 times as long as the metrics themselves;
    features are not extracted again. Samples are taken for independent: of balanced labels the intervals are too wide.
    """
    values = result["metrics"]
    metrics = {name: OWN_NAMES.get(base(name), base(name)) for name in values if base(name) not in SPREADS.values()}
    by_class = "class_fid" in metrics.values()
    again = replicates(generated if by_class else replace(generated, labels=None), reference, device)
    intervals_, unavailable = {}, {}
    for name, metric in metrics.items():
        value = values[name]
        if reason := _no_interval(metric, value, generated, reference):
            unavailable[name] = reason
            continue
        # The mean over random subsets has an error of its own, which no replicate shows: these take all pairs.
        subsets = values[spread_of(name)] / math.sqrt(kernel.KID_SUBSETS) if metric == "kid" else 0.0
        half = STUDENT * math.hypot(jackknife_error(again[metric]), subsets)
        low, high = (0.0, 1.0) if metric in SHARES else (-math.inf, math.inf)
        intervals_[name] = [max(low, value - half), min(high, value + half)]
    method = f"delete-a-group jackknife of the samples, {GROUPS} groups; the reference is fixed"
    return {"level": 0.95, "method": method, "found": intervals_, "unavailable": unavailable}


def _no_interval(metric: str, value: float, generated: Features, reference: Reference) -> str:
    """Say why a metric has no interval; "" where it has."""
    if metric in SHARES and reference.manifold:
        balls = reference.part or reference.manifold
        images = generated.pool if SHARES[metric] == "samples" else balls.features
        if min(value, 1 - value) * len(images) < RARE:
            return f"fewer than {RARE} images are behind this share, or behind its complement"
    return ABSENT.get(metric, "")


def check_groups(count: int) -> None:
    """Refuse samples of which groups would hold next to none.

    Raises:
        UserError: saying how many are needed.
    """
    if count < 2 * GROUPS:
        raise UserError(f"--intervals: {count} samples; {GROUPS} groups need at least {2 * GROUPS}: draw more")


def jackknife_error(values: np.ndarray) -> float:
    """Standard error from G values that each lack a group: the root of (G − 1)/G Σ (θ_g − θ̄)²."""
    return float(math.sqrt((len(values) - 1) * np.var(values)))


def replicates(generated: Features, reference: Reference, device: torch.device = CPU) -> dict[str, np.ndarray]:
    """Return name → (20,) values of each metric, each without one group of the samples; by class if labelled.

    KID is of all pairs, less what the reference alone gives: other random subsets would be noise of the replicates.
    """
    order = np.random.RandomState(SEED).permutation(len(generated.pool))
    groups = [np.sort(group) for group in np.array_split(order, GROUPS)]
    parts = [frechet.moments(generated.pool[rows], device) for rows in groups]  # so that each row is multiplied once
    values = []
    for g in range(GROUPS):
        left = sum(parts[:g] + parts[g + 1 :], frechet.Moments()).statistics()
        rows = np.sort(np.concatenate(groups[:g] + groups[g + 1 :]))
        values.append(_metrics(generated, reference, rows, left, device))
    return {name: np.array([replicate[name] for replicate in values]) for name in values[0]}


def _metrics(
    generated: Features, reference: Reference, rows: np.ndarray, left: frechet.Statistics, device: torch.device
) -> dict[str, float]:
    """Return the metrics of the samples that are left, by their rows and the statistics of these."""
    x, real, workspace = generated.pool[rows], reference.manifold, Workspace(device=device)
    fid = frechet.frechet_distance(left, reference.pool, device)
    metrics = {"fid": fid, "vendi": diversity.vendi(x, device)}
    if generated.logits is not None:
        metrics["inception_score"] = diversity.inception_score_of(generated.logits, rows)
    if real is None:
        return metrics
    if generated.labels is not None and reference.labels is not None:
        each = frechet.fid_by_class(x, generated.labels[rows], real.features, reference.labels, device)
        metrics["class_fid"] = float(np.mean(list(each.values())))
    own = neighbours.manifold(x, workspace=workspace)
    found = neighbours.across(own, real, reference.part, workspace)
    cmmd = kernel.cmmd(own.kernel, real.kernel, found.kernel)
    metrics |= found.shares | {"kid": kernel.within_less_across(x, real.features), "cmmd": cmmd}
    return metrics | {"memorisation": float(neighbours.memorised(found.nearest, real).mean())}
