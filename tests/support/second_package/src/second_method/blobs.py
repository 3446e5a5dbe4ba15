"""Four kinds of grey squares of 8×8 pixels: bright in one corner."""

import numpy as np

from harness.data.raw_files import RawDataSet


def read(root):
    """Return 96 images for training and 48 for tests."""
    return {"train": _split(96, seed=0), "test": _split(48, seed=1)}


def _split(count, seed):
    rng = np.random.RandomState(seed)
    images, labels = rng.randint(0, 64, (count, 1, 8, 8)), np.arange(count) % 4
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 150
    return images.astype(np.uint8), labels


BLOBS = RawDataSet(read, classifier={"side": 16, "steps": 30, "batch": 32, "shift": 0.0, "mirror": False})
