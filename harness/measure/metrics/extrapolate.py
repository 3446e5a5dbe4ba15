"""FID's bias at small N, and what is left without it."""

import numpy as np

from harness.measure.metrics.frechet import Statistics, frechet_distance, statistics

POINTS = 15
SEED = 2020


def enough(count: int, features: int) -> bool:
    """Tell whether the bias of `count` samples can be told: it is a line in 1/N only well above N = D."""
    return count >= 4 * features


def fid_by_count(generated: np.ndarray, reference: Statistics) -> dict[int, float]:
    """Return count → FID of so many samples, for 15 counts evenly spaced up to all N; the mean over disjoint draws.

    Features (N, D). The smallest count is N/10, at least 2D; with 50,000 samples of Inception's features the counts
    are those of Chong & Forsyth 2020, who draw once for each. The draws are the same in every call.
    """
    N, D = generated.shape
    rng = np.random.RandomState(SEED)
    found = {}
    for count in np.linspace(max(N // 10, 2 * D), N, POINTS).astype(int).tolist():
        draws = np.split(rng.permutation(N)[: N // count * count], N // count)
        found[count] = float(np.mean([frechet_distance(statistics(generated[np.sort(i)]), reference) for i in draws]))
    return found


def fid_infinity(points: dict[int, float]) -> float:
    """Return the Fréchet distance at 1/N = 0 of the least-squares line through (1/N, FID) (Chong & Forsyth 2020)."""
    _, intercept = np.polyfit([1 / count for count in points], list(points.values()), 1)
    return float(intercept)
