"""KID and CMMD against double loops and torch-fidelity."""

import numpy as np
import pytest
import torch
from support.feature_metrics import cmmd

from harness.measure.metrics import kernel
from harness.measure.metrics.kernel import kid, kid_subset_size

rng = np.random.default_rng(0)


def test_kid_is_that_of_a_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rng.normal(size=(14, 5)), rng.normal(size=(12, 5)) + 0.5
    size = kid_subset_size(14, 12)
    assert size == 6
    assert kid_subset_size(50_000, 10_000) == 1000

    def cubed(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 5 + 1) ** 3

    subsets, found = np.random.RandomState(2020), []
    for _ in range(100):
        a, b = x[subsets.choice(14, size, False)], y[subsets.choice(12, size, False)]
        within = sum(cubed(s[i], s[j]) for s in (a, b) for i in range(size) for j in range(size) if i != j)
        between = sum(cubed(p, q) for p in a for q in b)
        found.append(within / (size * (size - 1)) - 2 * between / size**2)
    assert kid(x, y) == pytest.approx((np.mean(found), np.std(found)), rel=1e-10)
    monkeypatch.setattr(kernel, "_float64", lambda rows, _: torch.from_numpy(rows).double())  # as on a GPU
    assert kid(x, y) == pytest.approx((np.mean(found), np.std(found)), rel=1e-10)


def test_cmmd_is_that_of_a_double_loop() -> None:
    x, y = rng.normal(size=(13, 5)), 3 * rng.normal(size=(9, 5)) + 1
    unit = [[row / np.sqrt((row**2).sum()) for row in rows] for rows in (x, y)]

    def mean_kernel(a: list, b: list) -> float:
        return float(np.mean([np.exp(-((p - q) ** 2).sum() / (2 * 10**2)) for p in a for q in b]))

    a, b = unit
    expected = 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert cmmd(x, 7 * x) == pytest.approx(0, abs=1e-9)  # length does not count


def test_kid_with_subsets_of_a_given_size() -> None:
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    assert abs(kid(x, y, size=60)[0]) < 0.2  # unbiased: both of the same law
    assert kid(x, y, size=60)[1] < 1e-9  # a subset is all there is, each time
    assert kid(x, y + 3, size=60)[0] > 100
