"""Peak memory of measuring: of Inception's features of images that are made as they are wanted, by how many have gone
through; then, in the same process, of every number that two sets of features give.

Run: OMP_NUM_THREADS=1 python benchmarks/memory.py data/inception-v3-compat.pth --images 1000 --features 50000
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from harness.measure.compare import Measured, compare
from harness.measure.extractors.extractor import Extractor, Features, extract, extractor
from harness.measure.extractors.inception import INCEPTION, Outputs
from harness.measure.images import Images
from harness.measure.metrics.diversity import vendi
from harness.measure.metrics.frechet import statistics
from harness.measure.metrics.neighbours import manifold
from harness.measure.reference import Reference

SHAPE = (3, 256, 256)
FEATURES = 2048 * 4  # bytes of an image's
EVERY = 128  # images, a multiple of the batch of 64


def peak() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made(count: int) -> Images:
    """Return a set of random images; the peak is printed as they go by."""

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for i in range(start, stop):
            if i > start and i % EVERY == 0:
                show(i)
            yield np.random.default_rng(i).integers(0, 256, SHAPE, np.uint8)

    return Images("random", count, SHAPE, "random", read)


def show(count: int) -> None:
    """Print the peak, and what is left of it without the features."""
    kept = count * FEATURES / 2**20
    print(f"{count} images: peak {peak():.0f} MiB, of which features {kept:.1f}", flush=True)


def of_images(weights: Path, count: int) -> None:
    """Print the peak before the first image, at every 128 images, and at the end."""
    network = extractor(INCEPTION, "random", weights.parent, weights.parent, weights)
    print(f"network alone: {peak():.0f} MiB")
    found = extract(made(count), network)
    print(f"{len(found.pool)} images in all: peak {peak():.0f} MiB")


def of_features(count: int) -> None:
    """Print the peak of measuring so many samples against as many real images, both of them random features."""
    rng = np.random.default_rng(0)
    generated, real = (rng.standard_normal((count, 2048), np.float32) for _ in range(2))
    kept = 2 * count * FEATURES / 2**20
    print(f"{count} and {count} features: {peak():.0f} MiB, of which features {kept:.0f}", flush=True)
    reference = Reference("random", "random", count, statistics(real), None, manifold(real), vendi=vendi(real))
    began = time.process_time()
    network = Extractor("random", "random", Outputs, torch.device("cpu"))
    found = compare(Measured(Features(generated), reference, network))
    print(f"{', '.join(found['metrics'])}: {time.process_time() - began:.0f} CPU-s")
    print(f"peak {peak():.0f} MiB, without the features {peak() - kept:.0f}")


def main() -> None:
    """Print the peak of one of the two, or of one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?", help="of Inception-v3")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--features", type=int, help="so many of each set; by default none")
    arguments = parser.parse_args()
    if not (arguments.features or arguments.weights):
        parser.error("WEIGHTS or --features")
    if arguments.weights:
        of_images(arguments.weights, arguments.images)
    if arguments.features:
        of_features(arguments.features)


if __name__ == "__main__":
    main()
