"""One call from samples to numbers, with the protocol that the numbers belong to."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.data import load_images
from harness.errors import UserError
from harness.measure.classifier import recipe_of
from harness.measure.features import Extractor, Features, extract, extractor
from harness.measure.frechet import Statistics, frechet_distance, statistics
from harness.measure.images import of_array
from harness.measure.inception import INCEPTION, inception_weights
from harness.measure.metrics import KID_SUBSETS, check, inception_score, kid, kid_subset_size
from harness.measure.neighbours import NEIGHBOURHOOD, Manifold, manifold, neighbour_metrics
from harness.measure.reference import NO_IMAGES, Reference, of_dataset


def measure(
    samples: np.ndarray,
    dataset: str,
    split: str,
    features: str,
    data_root: Path,
    cache_root: Path,
    weights: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure uint8 samples (N, C, H, W) against a split of a data set; the result is ready for JSON.

    Args:
        features: "classifier" or "inception-v3-compat".
        data_root: folder of the data sets.
        cache_root: folder for the classifier and the reference features, shared by all runs.
        weights: Inception's weights, by default `<data_root>/inception-v3-compat.pth`.

    Raises:
        UserError: a missing data set or weights file, latents packed without images, or samples of another shape.
    """
    reference_set = load_images(dataset, split, data_root)
    if samples.shape[1:] != reference_set.shape:
        raise UserError(f"samples of shape {samples.shape[1:]} cannot be measured on {dataset}, {reference_set.shape}")
    extractor_ = extractor(features, dataset, data_root, cache_root, weights, device)
    reference = of_dataset(reference_set, extractor_, cache_root)
    return compare(extract(of_array(samples, "samples"), extractor_), reference, extractor_)


def check_measurable(dataset: str, split: str, features: str, data_root: Path) -> None:
    """Refuse a measurement that could not be made, before the training that it would be made of.

    Raises:
        UserError: as `measure` would, in the end.
    """
    load_images(dataset, split, data_root)
    if features == INCEPTION:
        inception_weights(data_root)
    else:
        recipe_of(dataset)


def compare(generated: Features, reference: Reference, extractor_: Extractor) -> dict[str, Any]:
    """Return {metrics, unavailable, protocol}: numbers by name, why others are missing, and what all belong to.

    Raises:
        UserError: features that are not finite, or too few samples.
    """
    metrics: dict[str, float] = {}
    missing: dict[str, str] = {}
    check(generated.pool, generated.pool, rows=2)
    metrics["fid"] = _distance(statistics(generated.pool), reference.pool, reference.name)
    if generated.spatial and reference.spatial:
        metrics["sfid"] = _distance(generated.spatial, reference.spatial, reference.name)
    else:
        missing["sfid"] = extractor_.no_spatial or reference.no_spatial
    if generated.logits is None:
        missing["inception_score"] = extractor_.no_logits
    else:
        metrics["inception_score"], metrics["inception_score_std"] = inception_score(generated.logits)
    if reference.manifold:
        metrics |= _by_rows(generated.pool, reference.manifold)
    else:
        missing |= dict.fromkeys(("kid", "precision", "recall", "density", "coverage"), NO_IMAGES)
    return {
        "metrics": metrics,
        "unavailable": missing,
        "protocol": _protocol(len(generated.pool), reference, extractor_),
    }


def _by_rows(generated: np.ndarray, reference: Manifold) -> dict[str, float]:
    """Return the metrics that need the features of each reference image."""
    check(generated, reference.features, rows=2)
    mean, spread = kid(generated, reference.features)
    return {"kid": mean, "kid_std": spread, **neighbour_metrics(manifold(generated), reference)}


def _distance(generated: Statistics, reference: Statistics, name: str) -> float:
    if generated.mean.shape != reference.mean.shape:
        raise UserError(
            f"{name}: statistics of {len(reference.mean)} features, and these have {len(generated.mean)}: they are of "
            "another network"
        )
    return frechet_distance(generated, reference)


def _protocol(count: int, reference: Reference, extractor_: Extractor) -> dict[str, Any]:
    """Return what may differ between measurements; what a metric's name settles (k, splits) is in `PROTOCOLS`."""
    said = {
        "features": extractor_.id,
        "features_note": extractor_.note,
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
