"""Fréchet distances against scipy's matrix root and closed forms, their extrapolation, and class by class."""

import numpy as np
import pytest
import scipy.linalg
import torch
from support.feature_metrics import correlated, fid, precision_recall

from harness.errors import UserError
from harness.measure.metrics.frechet import (
    Moments,
    Statistics,
    fid_by_class,
    fid_by_count,
    fid_infinity,
    frechet_distance,
    statistics,
    too_few,
)

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "tolerance"), [(400, 1e-10), (20, 1e-5)])
def test_fid_is_that_of_scipys_matrix_root(n: int, tolerance: float) -> None:
    # With 20 rows in 32 dimensions the covariances are singular, where sqrtm itself has half the digits.
    x, y = correlated(n, 32), correlated(500, 32)
    (m, a), (w, b) = ((z.mean(0), np.cov(z.T)) for z in (x.astype(np.float64), y.astype(np.float64)))
    expected = ((m - w) ** 2).sum() + np.trace(a + b - 2 * np.real(scipy.linalg.sqrtm(a @ b)))
    assert fid(x, y) == pytest.approx(expected, rel=tolerance)


def test_fid_of_gaussians_in_closed_form() -> None:
    def exactly(mean: np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
        """Rows whose sample mean and covariance are the given ones, not only in expectation."""
        z = rng.normal(size=(n, len(mean)))
        z -= z.mean(0)
        return mean + z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T * np.sqrt(variance)

    mean, a, b = rng.normal(size=8), rng.uniform(0.1, 4, 8), rng.uniform(0.1, 4, 8)
    expected = (mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert fid(exactly(mean, a, 50), exactly(0 * mean, b, 90)) == pytest.approx(expected, rel=1e-10)


def test_equal_sets_are_at_no_distance() -> None:
    x = correlated(300, 16)
    assert fid(x, x) == pytest.approx(0, abs=1e-8 * np.trace(np.cov(x.T)))
    assert precision_recall(x, x) == (1, 1)


def test_fid_at_infinity_takes_the_bias_away() -> None:
    assert fid_infinity({n: 3 + 5 / n for n in (100, 200, 700)}) == pytest.approx(3)
    D, N = 10, 400
    real = Statistics(np.zeros(D), np.eye(D))
    left, raw = [], []
    for _ in range(6):  # of samples of the very law of the reference the truth is 0
        x = rng.normal(size=(N, D)).astype(np.float32)
        points = fid_by_count(x, real)
        assert points[N] == pytest.approx(frechet_distance(statistics(x), real), rel=1e-9)
        assert list(points) == np.linspace(40, N, 15).astype(int).tolist()
        left.append(fid_infinity(points))
        raw.append(points[N])
    assert np.mean(raw) > 0.05
    assert abs(np.mean(left)) < 0.15 * np.mean(raw)


def test_fid_by_class_is_the_fid_of_each_class() -> None:
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(90, 4)) + 1
    a, b = np.arange(60) % 3, np.arange(90) % 4
    found = fid_by_class(x, a, y, b)
    assert found == pytest.approx({label: fid(x[a == label], y[b == label]) for label in (0, 1, 2)})
    assert too_few(a, 19, "samples") == ""
    assert too_few(a, 20, "samples") == "samples: 20 images in the smallest of 3 classes, and 20 features need more"


def gaussians(D: int, smallest: float) -> tuple[Statistics, Statistics, float]:
    """Return two Gaussians whose covariances do not commute, variances down to `smallest`, and their distance.

    Where Σ₂ = TΣ₁T with a symmetric positive T, x → Tx is the optimal transport, and it costs tr((T − 1)Σ₁(T − 1)).
    """
    Q, P = (np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(2))
    first = (Q * np.geomspace(smallest, 2, D)) @ Q.T
    T = (P * rng.uniform(0.5, 1.5, D)) @ P.T
    mean = rng.normal(size=D) / 10
    expected = (mean**2).sum() + np.trace((T - np.eye(D)) @ first @ (T - np.eye(D)))
    return Statistics(mean, first), Statistics(0 * mean, T @ first @ T), expected


@pytest.mark.parametrize("smallest", [1e-3, 1e-7, 1e-12])
def test_distance_of_gaussians_that_do_not_commute(smallest: float) -> None:
    a, b, expected = gaussians(128, smallest)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


def test_variance_that_is_rounding_adds_nothing() -> None:
    A, B = rng.normal(size=(200, 5)), rng.normal(size=(200, 8))  # Σ = AAᵀ, which Cholesky takes with a little more
    a, b = (Statistics(np.zeros(200), F @ F.T + 1e-12 * np.eye(200)) for F in (A, B))
    expected = (A**2).sum() + (B**2).sum() - 2 * np.linalg.norm(A.T @ B, "nuc")
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_distance_in_1024_dimensions_is_right() -> None:
    a, b, expected = gaussians(1024, 1e-6)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_distance_is_that_of_a_matrix_square_root() -> None:
    a, b, _ = gaussians(128, 1e-3)
    root = np.trace(scipy.linalg.sqrtm(a.covariance @ b.covariance).real)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [10, 60, 500])
def test_equal_sets_are_at_distance_zero_whatever_their_rank(n: int) -> None:
    x = np.maximum(rng.normal(size=(n, 64)) @ rng.normal(size=(64, 64)), 0)
    x[:, :5] = 0  # features that never fire
    found = statistics(x)
    assert abs(frechet_distance(found, found)) < 1e-10 * np.trace(found.covariance)


def test_moments_stream_and_merge_far_from_the_origin() -> None:
    x = rng.normal(size=(100, 5)) + 1e6
    whole, parts = Moments(), [Moments(), Moments(), Moments()]
    for row in x:
        whole.update(torch.from_numpy(row[None]))
    parts[1].update(torch.from_numpy(x[:30]))
    parts[2].update(torch.from_numpy(x[30:]))
    total = sum([*parts, Moments()], Moments())
    assert parts[1].statistics().count == 30  # the others are left as they were
    np.testing.assert_allclose(parts[1].statistics().covariance, np.cov(x[:30].T), rtol=1e-8)
    for moments in (whole, total):
        found = moments.statistics()
        assert found.count == 100
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
        np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-8)
    with pytest.raises(UserError, match="1 images; a covariance needs at least 2"):
        statistics(x[:1])
    with pytest.raises(UserError, match="not finite"):
        statistics(np.where(x == x[3], np.nan, x))
