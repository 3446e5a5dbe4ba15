"""From the features of two sets of images to every number that they give, and the reason for each that they do not."""

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features
from harness.measure.metrics.diversity import vendi
from harness.measure.metrics.frechet import (
    Statistics,
    by_class,
    class_fid,
    enough,
    fid_by_count,
    fid_infinity,
    frechet_distance,
    statistics,
    too_few,
)
from harness.measure.metrics.inception_score import inception_score
from harness.measure.metrics.kernel import KID_SUBSETS, cmmd, kid, kid_subset_size
from harness.measure.metrics.neighbours import (
    NEIGHBOURHOOD,
    Manifold,
    closest,
    manifold,
    memorised,
    mutual_share,
    neighbour_metrics,
)
from harness.measure.metrics.validation import check_features
from harness.measure.reference import NO_IMAGES, Reference
from harness.metric_definitions import with_features

PAIRS = 10  # samples that are shown beside their nearest real images
NO_LABELS = "nobody knows the classes of the samples"
BY_ROWS = ("kid", "precision", "recall", "density", "coverage", "cmmd", "memorisation")  # need each image's features


@dataclass
class MetricValues:
    """What has been measured so far: numbers by name, why others are missing, and what lies behind the numbers."""

    metrics: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=lambda: {"real": {}})


def compare(generated: Features, reference: Reference, extractor: Extractor) -> dict[str, Any]:
    """Return {metrics, unavailable, protocol, details}, ready for JSON.

    Details: FID by the number of samples, FID by class, the samples nearest to real images and how near, and the
    numbers of the real images themselves.

    Raises:
        UserError: features that are not finite, or too few samples.
    """
    check_features(2, generated=generated.pool)
    values = MetricValues()
    _distances(generated, reference, extractor, values)
    _distances_by_class(generated, reference, values)
    _diversity(generated, reference, extractor, values)
    if reference.manifold:
        _by_rows(generated.pool, reference.manifold, reference.held_out, values)
    else:
        values.unavailable |= dict.fromkeys(BY_ROWS, NO_IMAGES)

    def full_name(name: str) -> str:
        carries_features = extractor.foreign or name == "cmmd"
        return with_features(name, extractor.name or extractor.id) if carries_features else name

    return {
        "metrics": {full_name(name): value for name, value in values.metrics.items()},
        "unavailable": {full_name(name): why for name, why in values.unavailable.items()},
        "protocol": _protocol(len(generated.pool), reference, extractor),
        "details": values.details,
    }


def _distances(generated: Features, reference: Reference, extractor: Extractor, values: MetricValues) -> None:
    """Add the Fréchet distances of all samples and of fewer, and the Inception Score."""
    (N, D), metrics, missing = generated.pool.shape, values.metrics, values.unavailable
    metrics["fid"] = _distance(statistics(generated.pool), reference.pool, reference.name)
    if enough(N, D):
        points = fid_by_count(generated.pool, reference.pool)
        values.details["fid_by_count"] = {str(count): distance for count, distance in points.items()}
        metrics["fid_infinity"] = fid_infinity(points)
    else:
        missing["fid_infinity"] = f"{N:,} samples; of {D:,} features the bias can be told from {4 * D:,} on"
    if generated.spatial and reference.spatial:
        metrics["sfid"] = _distance(generated.spatial, reference.spatial, reference.name)
    else:
        missing["sfid"] = extractor.no_spatial or reference.no_spatial
    if generated.logits is None:
        missing["inception_score"] = extractor.no_logits
    else:
        metrics["inception_score"], metrics["inception_score_std"] = inception_score(generated.logits)


def _distances_by_class(generated: Features, reference: Reference, values: MetricValues) -> None:
    """Add the mean of the classes' own FIDs."""
    D, real = generated.pool.shape[1], reference.manifold
    if generated.labels is None or real is None or reference.labels is None:
        reason = NO_LABELS if generated.labels is None else "nobody knows the classes of the reference"
        values.unavailable["class_fid"] = reason if real else NO_IMAGES
        return
    reason = too_few(generated.labels, D, "samples") or too_few(reference.labels, D, reference.name)
    if not reason and not np.isin(generated.labels, reference.labels).any():
        reason = "samples and reference have no class in common"
    if reason:
        values.unavailable["class_fid"] = reason
        return
    each = class_fid(by_class(generated.pool, generated.labels), by_class(real.features, reference.labels))
    values.details["fid_by_class"] = {str(label): distance for label, distance in each.items()}
    values.metrics["class_fid"] = float(np.mean(list(each.values())))


def _diversity(generated: Features, reference: Reference, extractor: Extractor, values: MetricValues) -> None:
    """Add what samples say without being compared, and what real images say."""
    values.metrics["vendi"] = vendi(generated.pool)
    if reference.manifold:
        values.details["real"]["vendi"] = vendi(reference.manifold.features)
    if reference.diversity is not None:
        values.details["real"]["class_diversity"] = reference.diversity
    if generated.diversity is not None:
        values.metrics["class_diversity"] = generated.diversity
    else:
        reason = NO_LABELS if generated.labels is None else "no class has two samples"
        values.unavailable["class_diversity"] = extractor.no_maps or reason


def _by_rows(generated: np.ndarray, reference: Manifold, held_out: str, values: MetricValues) -> None:
    """Add the metrics that need the features of each reference image."""
    check_features(2, reference=reference.features)
    metrics = values.metrics
    metrics["kid"], metrics["kid_std"] = kid(generated, reference.features)
    shares, nearest = neighbour_metrics(manifold(generated), reference)
    metrics |= shares
    metrics["cmmd"] = cmmd(generated, reference.features)
    if held_out:
        values.unavailable["memorisation"] = held_out
        return
    metrics["memorisation"] = float(memorised(nearest, reference).mean())
    values.details["real"]["memorisation"] = mutual_share(reference)
    values.details["nearest"] = [
        {"sample": int(i), "real": int(nearest.index[i]), "distance": float(nearest.distance[i]) ** 0.5}
        for i in closest(nearest, reference, PAIRS)
    ]


def _distance(generated: Statistics, reference: Statistics, name: str) -> float:
    if generated.mean.shape != reference.mean.shape:
        raise UserError(
            f"{name}: statistics of {len(reference.mean)} features, and these have {len(generated.mean)}: they are of "
            "another network"
        )
    return frechet_distance(generated, reference)


def _protocol(count: int, reference: Reference, extractor: Extractor) -> dict[str, Any]:
    """Return what may differ between measurements; what a metric's name settles (k, splits) is in `DEFINITIONS`."""
    protocol = {
        "features": extractor.id,
        "features_note": extractor.note,
        "generated": count,
        "reference": reference.name,
        "reference_count": reference.count,
        "reference_content": reference.content[:12],
        "torch_fidelity": version("torch-fidelity"),
    }
    if reference.manifold:
        rows = len(reference.manifold.features)
        protocol |= {"kid_subsets": KID_SUBSETS, "kid_subset_size": kid_subset_size(count, rows)}
        protocol |= {"prc_neighbourhood": NEIGHBOURHOOD}
        if rows != reference.count:
            protocol["reference_rows"] = rows
    return protocol
