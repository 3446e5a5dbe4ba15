"""One call from samples to numbers, with the protocol that the numbers belong to."""

from pathlib import Path
from typing import Any

import numpy as np

from harness.data.datasets import load_images
from harness.errors import UserError
from harness.measure.compare import compare
from harness.measure.extractors.classifier import recipe_of
from harness.measure.extractors.extractor import extract, extractor
from harness.measure.extractors.inception import INCEPTION, inception_weights
from harness.measure.images import of_array
from harness.measure.reference import of_dataset


def measure(
    samples: np.ndarray,
    dataset: str,
    split: str,
    features: str,
    data_root: Path,
    cache_root: Path,
    weights: Path | None = None,
    device: str = "cpu",
    labels: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure uint8 samples (N, C, H, W) against a split of a data set; the result is ready for JSON.

    Args:
        features: "classifier", "inception-v3-compat", or a model of timm.
        data_root: folder of the data sets.
        cache_root: folder for the classifier and the reference features, shared by all runs.
        weights: the network's weights, by default `<data_root>/inception-v3-compat.pth` or what timm publishes.
        labels: the samples' classes (N,), where they are known.

    Raises:
        UserError: a missing data set or weights file, latents packed without images, or samples of another shape.
    """
    reference_set = load_images(dataset, split, data_root)
    if samples.shape[1:] != reference_set.shape:
        raise UserError(f"samples of shape {samples.shape[1:]} cannot be measured on {dataset}, {reference_set.shape}")
    extractor_ = extractor(features, dataset, data_root, cache_root, weights, device)
    reference = of_dataset(reference_set, extractor_, cache_root)
    return compare(extract(of_array(samples, "samples", labels=labels), extractor_), reference, extractor_)


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
