"""From the features of two sets of images to every number that they give, and the reason for each that they do not."""

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features
from harness.measure.metrics.extrapolate import enough, fid_by_count, fid_infinity
from harness.measure.metrics.frechet import Statistics, frechet_distance, statistics
from harness.measure.metrics.kernel import KID_SUBSETS, check, cmmd, inception_score, kid, kid_subset_size, vendi
from harness.measure.metrics.neighbours import (
    NEIGHBOURHOOD,
    Manifold,
    closest,
    manifold,
    memorised,
    mutual_share,
    neighbour_metrics,
)
from harness.measure.metrics.per_class import by_class, class_fid, too_few
from harness.measure.reference import NO_IMAGES, Reference
from harness.metric_definitions import with_features

PAIRS = 10  # samples that are shown beside their nearest real images
NO_LABELS = "nobody knows the classes of the samples"
BY_ROWS = ("kid", "precision", "recall", "density", "coverage", "cmmd", "memorisation")  # need each image's features


@dataclass
class Found:
    """What has been found so far: numbers by name, why others are missing, and what lies behind the numbers."""

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
    check(generated.pool, generated.pool, rows=2)
    found = Found()
    _distances(generated, reference, extractor, found)
    _distances_by_class(generated, reference, found)
    _diversity(generated, reference, extractor, found)
    if reference.manifold:
        _by_rows(generated.pool, reference.manifold, reference.held_out, found)
    else:
        found.unavailable |= dict.fromkeys(BY_ROWS, NO_IMAGES)

    def called(name: str) -> str:
        carries = extractor.foreign or name == "cmmd"
        return with_features(name, extractor.name or extractor.id) if carries else name

    return {
        "metrics": {called(name): value for name, value in found.metrics.items()},
        "unavailable": {called(name): why for name, why in found.unavailable.items()},
        "protocol": _protocol(len(generated.pool), reference, extractor),
        "details": found.details,
    }


def _distances(generated: Features, reference: Reference, extractor: Extractor, found: Found) -> None:
    """Add the Fréchet distances of all samples and of fewer, and the Inception Score."""
    (N, D), metrics, missing = generated.pool.shape, found.metrics, found.unavailable
    metrics["fid"] = _distance(statistics(generated.pool), reference.pool, reference.name)
    if enough(N, D):
        points = fid_by_count(generated.pool, reference.pool)
        found.details["fid_by_count"] = {str(count): distance for count, distance in points.items()}
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


def _distances_by_class(generated: Features, reference: Reference, found: Found) -> None:
    """Add the mean of the classes' own FIDs."""
    D, real = generated.pool.shape[1], reference.manifold
    if generated.labels is None or real is None or reference.labels is None:
        unknown = NO_LABELS if generated.labels is None else "nobody knows the classes of the reference"
        found.unavailable["class_fid"] = unknown if real else NO_IMAGES
        return
    lacking = too_few(generated.labels, D, "samples") or too_few(reference.labels, D, reference.name)
    if lacking or not np.isin(generated.labels, reference.labels).any():
        lacking = lacking or "samples and reference have no class in common"
        found.unavailable["class_fid"] = lacking
        return
    each = class_fid(by_class(generated.pool, generated.labels), by_class(real.features, reference.labels))
    found.details["fid_by_class"] = {str(label): distance for label, distance in each.items()}
    found.metrics["class_fid"] = float(np.mean(list(each.values())))


def _diversity(generated: Features, reference: Reference, extractor: Extractor, found: Found) -> None:
    """Add what samples say without being compared, and what real images say."""
    found.metrics["vendi"] = vendi(generated.pool)
    if reference.manifold:
        found.details["real"]["vendi"] = vendi(reference.manifold.features)
    if reference.diversity is not None:
        found.details["real"]["class_diversity"] = reference.diversity
    if generated.diversity is not None:
        found.metrics["class_diversity"] = generated.diversity
    else:
        unknown = NO_LABELS if generated.labels is None else "no class has two samples"
        found.unavailable["class_diversity"] = extractor.no_maps or unknown


def _by_rows(generated: np.ndarray, reference: Manifold, held_out: str, found: Found) -> None:
    """Add the metrics that need the features of each reference image."""
    check(generated, reference.features, rows=2)
    metrics = found.metrics
    metrics["kid"], metrics["kid_std"] = kid(generated, reference.features)
    shares, nearest = neighbour_metrics(manifold(generated), reference)
    metrics |= shares
    metrics["cmmd"] = cmmd(generated, reference.features)
    if held_out:
        found.unavailable["memorisation"] = held_out
        return
    metrics["memorisation"] = float(memorised(nearest, reference).mean())
    found.details["real"]["memorisation"] = mutual_share(reference)
    found.details["nearest"] = [
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
    said = {
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
        said |= {"kid_subsets": KID_SUBSETS, "kid_subset_size": kid_subset_size(count, rows)}
        said |= {"prc_neighbourhood": NEIGHBOURHOOD}
        if rows != reference.count:
            said["reference_rows"] = rows
    return said
