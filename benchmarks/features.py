"""Inception's features: images per second of ours and of torch-fidelity's network as shipped, in turn in one process.

Ours gives spatial features as well. Both round in float32, and are held against the same network in float64.

Run: OMP_NUM_THREADS=1 python benchmarks/features.py data/inception-v3-compat.pth
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.measure.extractors.inception import Inception, load_inception


@torch.no_grad()
def seconds(network: Callable[[Tensor], Any], images: Tensor) -> float:
    """Return how long a batch takes: CPU seconds, or seconds of the GPU."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


@torch.no_grad()
def in_float64(weights: Path, images: Tensor) -> Tensor:
    """Return the pooled features (B, 2048) of torch-fidelity's network, all of whose sums are float64."""
    network: Any = load_inception(weights).to(images.device).double()
    network.feature_extractor_internal_dtype = torch.float64
    return torch.cat([network(batch)[0] for batch in images.split(8)])


def main() -> None:
    """Print both speeds, the median ratio, and how far the pooled features are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved repetitions")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shipped = load_inception(arguments.weights).to(device)
    ours = Inception(load_inception(arguments.weights)).to(
        device=device,
        memory_format=torch.channels_last,  # type: ignore[call-overload]
    )
    images = torch.randint(256, (arguments.batch, 3, arguments.side, arguments.side), dtype=torch.uint8, device=device)
    with torch.no_grad():
        expected, found, exact = shipped(images)[0], ours(images).pool, in_float64(arguments.weights, images)
    pairs = [(seconds(ours, images), seconds(shipped, images)) for _ in range(arguments.pairs)]
    fast, slow = (arguments.batch / statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"batch {arguments.batch} of {arguments.side}×{arguments.side}, {device}, {torch.get_num_threads()} thread(s)"
    )
    print(f"images per second: {fast:.1f} ours, {slow:.1f} as shipped; median ratio {ratio:.2f}")
    apart, other, own = ((x - y).abs() for x, y in ((found, expected), (expected, exact), (found, exact)))
    where = expected.flatten()[apart.argmax()]
    print(
        f"pooled features apart by {apart.max():.1e} at most, at a feature of {where:.2f} of up to {expected.max():.2f}"
    )
    print(f"from float64: {own.max():.1e} ours, {other.max():.1e} as shipped")


if __name__ == "__main__":
    main()
