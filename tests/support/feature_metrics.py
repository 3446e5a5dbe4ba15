"""Metrics of two arrays of features in one call, as other libraries have them."""

import numpy as np

from harness.measure.metrics.diversity import vendi
from harness.measure.metrics.frechet import frechet_distance, statistics
from harness.measure.metrics.kernel import cmmd as cmmd_of
from harness.measure.metrics.neighbours import across, manifold
from harness.measure.reference import Reference

rng = np.random.default_rng(0)


def fid(generated: np.ndarray, reference: np.ndarray) -> float:
    return frechet_distance(statistics(generated), statistics(reference))


def precision_recall(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    shares = across(manifold(generated), manifold(reference)).shares
    return shares["precision"], shares["recall"]


def cmmd(generated: np.ndarray, reference: np.ndarray) -> float:
    x, y = manifold(generated), manifold(reference)
    return cmmd_of(x.kernel, y.kernel, across(x, y).kernel)


def reference_of(features: np.ndarray) -> Reference:
    pool, samples = statistics(features), manifold(features)
    return Reference("real", "", len(features), pool, None, samples, vendi=vendi(features))


def correlated(n: int, d: int) -> np.ndarray:
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)
