"""One call from samples to numbers, with the protocol that the numbers belong to."""

from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.data import load_images
from harness.errors import UserError
from harness.measure.classifier import recipe_of
from harness.measure.features import INCEPTION, extractor, inception_weights
from harness.measure.metrics import KID_SUBSETS, NEIGHBOURHOOD, compare, kid_subset_size
from harness.measure.reference import reference_features


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
    import torch_fidelity

    reference_set = load_images(dataset, split, data_root)
    if samples.shape[1:] != reference_set.shape:
        raise UserError(f"samples of shape {samples.shape[1:]} cannot be measured on {dataset}, {reference_set.shape}")
    extract = extractor(features, dataset, data_root, cache_root, weights, device)
    reference = reference_features(reference_set, extract, cache_root)
    return {
        "metrics": compare(extract(samples), reference),
        "protocol": {
            "features": extract.id,
            "features_note": extract.note,
            "generated": len(samples),
            "reference": f"{dataset}/{split}",
            "reference_count": len(reference),
            "reference_content": reference_set.content[:12],
            "kid_subsets": KID_SUBSETS,
            "kid_subset_size": kid_subset_size(len(samples), len(reference)),
            "prc_neighbourhood": NEIGHBOURHOOD,
            "torch_fidelity": torch_fidelity.__version__,
        },
    }


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
