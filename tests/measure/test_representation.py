"""What is measured of representations, on features whose numbers are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from harness.measure.metrics import representation as representations
from harness.measure.metrics.representation import (
    cknna,
    effective_rank,
    joined_spread,
    linear_cka,
    probe_accuracy,
    spread,
)
from harness.method.randomness import generator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "representations", 0), dtype=torch.float64)


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=9)).Q


def test_the_probe_reads_off_what_is_linear_and_nothing_else():
    x = normal(600, 6)
    linear, parity = (x[:, 0] > x[:, 1]).long(), (x[:, 0] * x[:, 1] > 0).long()
    assert probe_accuracy(x[:400], linear[:400], x[400:], linear[400:]) > 0.97
    assert probe_accuracy(x[:400], parity[:400], x[400:], parity[400:]) == pytest.approx(0.5, abs=0.1)  # 3 deviations


def test_two_gaussians_are_told_apart_as_well_as_bayes_can():
    """At a distance of 2 the best rule is right with probability Φ(1) = 0.8413."""
    y = torch.arange(4000) % 2
    x = normal(4000, 3)
    x[:, 0] += 2.0 * y
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert probe_accuracy(x[:1000], y[:1000], x[1000:], y[1000:]) == pytest.approx(best, abs=0.014)  # 2 deviations


def test_a_scale_a_shift_and_a_constant_feature_change_nothing():
    x, y = normal(300, 4), torch.arange(300) % 3
    x[:, 0] += y
    told = probe_accuracy(x[:200], y[:200], x[200:], y[200:])
    moved = torch.cat((x * torch.tensor([1e-3, 7.0, 1.0, 40.0]) + 5, torch.full((300, 1), 3.0)), 1)
    assert probe_accuracy(moved[:200], y[:200], moved[200:], y[200:]) == told


def test_both_solvers_find_the_same_layer():
    """torch's L-BFGS of a GPU against scikit-learn's, and both against scikit-learn on standardised digits."""
    bunch = load_digits()
    x, y = torch.from_numpy(bunch.data[:900]).double(), torch.from_numpy(bunch.target[:900])
    x = (x - x[:600].mean(0)) / x[:600].std(0, correction=0).clamp(min=1e-9)
    x = x.clamp(-50, 50)  # features constant in the first 600
    guesses = [
        guess(x[:600], y[:600], x[600:])
        for guess in (representations._guess_by_torch, representations._guess_by_sklearn)
    ]
    assert (guesses[0] == guesses[1]).double().mean() > 0.995
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(x[:600].numpy(), y[:600].numpy())
    assert np.array_equal(guesses[1].numpy(), reference.predict(x[600:].numpy()))


def test_effective_rank_of_known_spectra():
    eye = torch.cat((torch.eye(5), -torch.eye(5))).double()  # centred, five equal singular values
    assert effective_rank(eye) == pytest.approx(5)
    line = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None] @ normal(1, 4) + 3
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(torch.ones(6, 3, dtype=torch.float64)) == pytest.approx(1)
    shares = np.array([0.5, 0.3, 0.2])  # of the singular values' sum
    x = torch.tensor(np.diag(shares)).double()
    both = torch.cat((x, -x))
    assert effective_rank(both @ rotation(3)) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_spread_against_loops():
    z, z_plus = normal(9, 5), normal(9, 5, seed=1)
    a, b = z.numpy(), z_plus.numpy()
    units, others = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    told = spread(z, z_plus).numbers()
    assert told["norm"] == pytest.approx(np.mean([math.sqrt((v**2).mean()) for v in a]))
    apart = [math.sqrt(((a[i] - a[j]) ** 2).mean()) for i, j in pairs]
    assert told["distance"] == pytest.approx(np.mean(apart))
    kernel = [math.exp(-2 * ((units[i] - units[j]) ** 2).sum()) for i, j in pairs]
    assert told["uniformity"] == pytest.approx(math.log(np.mean(kernel)))
    assert told["alignment"] == pytest.approx(
        np.mean([((u - v) ** 2).sum() for u, v in zip(units, others, strict=True)])
    )
    counts, edges = np.histogram(np.float32(apart), bins=24)
    assert told["distances"]["counts"] == counts.tolist()
    assert (told["distances"]["low"], told["distances"]["high"]) == pytest.approx((edges[0], edges[-1]), rel=1e-6)
    parts = joined_spread([spread(z[:4], z_plus[:4]), spread(z[4:], z_plus[4:])])
    assert (len(parts.norms), len(parts.distances)) == (9, 6 + 10)


def test_uniformity_on_the_sphere_is_its_closed_form():
    """E exp(−2‖u − v‖²) on the sphere in three dimensions: ‖u − v‖² = 2 − 2s, s uniform on [−1, 1]: (1 − e⁻⁸)/8."""
    told = spread(normal(700, 3), normal(700, 3, seed=1)).numbers()
    assert told["uniformity"] == pytest.approx(math.log((1 - math.exp(-8)) / 8), abs=0.04)
    assert told["alignment"] == pytest.approx(2, abs=0.1)  # two independent directions
    same = torch.ones(4, 3, dtype=torch.float64)
    assert spread(same, same).numbers()["uniformity"] == pytest.approx(0)


def test_cka_of_known_features():
    x = normal(200, 6)
    assert linear_cka(x, 3 * x @ rotation(6) + 2) == pytest.approx(1)
    orthogonal = torch.linalg.qr(torch.cat((torch.ones(8, 1).double(), normal(8, 4)), 1)).Q[:, 1:]  # centred columns
    assert linear_cka(orthogonal[:, :2], orthogonal[:, 2:]) == pytest.approx(0, abs=1e-12)
    # One of two equal directions shared: ‖YᵀX‖² = 1 over √2 · √2.
    assert linear_cka(orthogonal[:, :2], orthogonal[:, 1:3]) == pytest.approx(0.5)
    y = normal(200, 3, seed=4) + x[:, :3]
    h = np.eye(200) - 1 / 200
    k, m = (h @ (v @ v.T).numpy() @ h for v in (x, y))
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m))


def slow_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The average over all quadruples of different samples that HSIC is (Song et al. 2012, theorem 2)."""
    n, total = len(k), 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_hsic_is_unbiased():
    k, m = (v @ v.T for v in (normal(7, 3), normal(7, 2, seed=1)))
    assert float(representations._hsic(k, m)) == pytest.approx(slow_hsic(k.numpy(), m.numpy()))


def hsic_by_matrices(k: np.ndarray, m: np.ndarray) -> float:
    """Equation 5 of Song et al. as it is printed; the kernels have zero diagonals."""
    n, one = len(k), np.ones(len(k))
    sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    return (np.trace(k @ m) + sums) / (n * (n - 3))


def test_cknna_against_its_definition():
    x = normal(12, 4)
    y = x[:, :3] + 0.5 * normal(12, 3, seed=3)
    kernels, near = [], []
    for features in (x.numpy(), y.numpy()):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        kernels.append(unit @ unit.T)
        rows = [sorted((j for j in range(12) if j != i), key=lambda j: -kernels[-1][i, j])[:3] for i in range(12)]
        near.append(np.array([[float(j in row) for j in range(12)] for row in rows]))
    (k, m), (a, b) = kernels, near
    own = hsic_by_matrices(k * a, k * a) * hsic_by_matrices(m * b, m * b)
    assert cknna(x, y, 3) == pytest.approx(hsic_by_matrices(k * a * b, m * a * b) / math.sqrt(own))
    assert cknna(x, 2 * x @ rotation(4), 3) == pytest.approx(1)
    assert abs(cknna(normal(300, 8), normal(300, 8, seed=5))) < 0.1
