"""Fréchet distance of 2048-dimensional statistics: ours against `scipy.linalg.sqrtm`, in turn in one process.

Covariances with variances over six decades, as Inception's, and of fewer samples than dimensions. CPU seconds, so that
what else the machine does falls on neither. Run: OMP_NUM_THREADS=1 python benchmarks/frechet.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg

from harness.measure.metrics.frechet import Statistics, frechet_distance
from harness.measure.metrics.frechet import statistics as statistics_of


def by_sqrtm(a: Statistics, b: Statistics) -> float:
    """Fréchet distance as pytorch-fid and ADM's suite compute it."""
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    return float(((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance) - 2 * np.trace(root.real))


def timed(distance: Callable[[Statistics, Statistics], float], a: Statistics, b: Statistics) -> tuple[float, float]:
    """Return CPU seconds and the distance."""
    start = time.process_time()
    found = distance(a, b)
    return time.process_time() - start, found


def main() -> None:
    """Print medians, their ratio and how far the two values are apart, for full and for deficient rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=3, help="interleaved repetitions")
    arguments = parser.parse_args()
    rng, D = np.random.default_rng(0), arguments.dimensions
    scales = np.geomspace(1e-3, 1, D)
    for samples in (5 * D, D // 2):
        a, b = (statistics_of(rng.normal(size=(samples, D)) @ _rotation(rng, D) * scales + shift) for shift in (0, 0.1))
        ours, theirs = zip(*((timed(frechet_distance, a, b), timed(by_sqrtm, a, b)) for _ in range(arguments.pairs)),
                           strict=True)  # fmt: skip
        fast, slow = (statistics.median(seconds for seconds, _ in runs) for runs in (ours, theirs))
        apart = abs(ours[0][1] / theirs[0][1] - 1)
        print(f"{samples} samples: {fast:.2f} s, sqrtm {slow:.2f} s, {slow / fast:.1f} times; values apart {apart:.1e}")


def _rotation(rng: np.random.Generator, D: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(D, D)))[0]


if __name__ == "__main__":
    main()
