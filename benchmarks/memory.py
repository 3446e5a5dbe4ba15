"""Peak memory of Inception's features of images that are made as they are wanted, by how many have gone through.

Run: OMP_NUM_THREADS=1 python benchmarks/memory.py data/inception-v3-compat.pth --images 1000
"""

import argparse
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.measure.features import extract, extractor
from harness.measure.images import Images
from harness.measure.inception import INCEPTION

SHAPE = (3, 256, 256)
FEATURES = 2048 * 4  # bytes of an image's
EVERY = 128  # images, a multiple of the batch of 64


def peak() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made(count: int) -> Images:
    """Return a set of random images; the peak is printed as they go by."""

    def batches(size: int, start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, size):
            rng = np.random.default_rng(first)
            yield rng.integers(0, 256, (min(size, stop - first), *SHAPE), np.uint8)
            if (first + size) % EVERY == 0:
                show(first + size)

    return Images("random", count, SHAPE, "random", batches)


def show(count: int) -> None:
    """Print the peak, and what is left of it without the features."""
    kept = count * FEATURES / 2**20
    print(f"{count} images: peak {peak():.0f} MiB, of which features {kept:.1f}", flush=True)


def main() -> None:
    """Print the peak before the first image, at every 128 images, and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    network = extractor(INCEPTION, "random", arguments.weights.parent, arguments.weights.parent, arguments.weights)
    print(f"network alone: {peak():.0f} MiB")
    found = extract(made(arguments.images), network)
    print(f"{len(found.pool)} images in all: peak {peak():.0f} MiB")


if __name__ == "__main__":
    main()
