"""Features of the data itself, computed once for each content and extractor."""

from pathlib import Path

import numpy as np

from harness.engine.cache import claim
from harness.engine.convert import own_file
from harness.engine.data import ImageDataset
from harness.files import replace
from harness.measure.features import Extractor


def reference_features(dataset: ImageDataset, extractor: Extractor, cache: Path) -> np.ndarray:
    """Return the features, float32 (M, D), of all images of a split, from the cache where it holds them.

    Raises:
        UserError: the cache is damaged or cannot be written.
    """
    path = cache / f"reference-{dataset.name}-{dataset.split}-{dataset.content[:12]}-{extractor.id}.npy"
    with claim(path) as missing:
        if missing:
            features = extractor(dataset.images)
            replace(path, lambda temporary: _save(temporary, features))
    with own_file(path, path):
        return np.load(path)


def _save(path: Path, features: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would add .npy to the name
        np.save(file, features)
