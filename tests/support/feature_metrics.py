"""Metrics of two arrays of features in one call, as other libraries have them."""

import numpy as np

from harness.measure.metrics.frechet import frechet_distance, statistics
from harness.measure.metrics.neighbours import manifold, neighbour_metrics

rng = np.random.default_rng(0)


def fid(generated: np.ndarray, reference: np.ndarray) -> float:
    return frechet_distance(statistics(generated), statistics(reference))


def precision_recall(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    shares, _ = neighbour_metrics(manifold(generated), manifold(reference))
    return shares["precision"], shares["recall"]


def correlated(n: int, d: int) -> np.ndarray:
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)
