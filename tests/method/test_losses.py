"""Table 1's losses against NumPy double loops in float64, closed forms, the official value, and pairwise identities."""

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support.places import GOLDEN as GOLDEN_FOLDER
from support.potentials import each
from torch import Tensor

from harness.method.distances import distances, gram
from harness.method.losses import TABLE_1, Potential, contrast, disperse, floor, pair_health
from harness.method.randomness import generator

GOLDEN = load_file(GOLDEN_FOLDER / "disp_given.safetensors")


def views(n=7, d=5, dtype=torch.float64, seed=0):
    z = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return z[0], z[1]


def gradient(loss, *z):
    z = [view.detach().clone().requires_grad_() for view in z]
    return torch.autograd.grad(loss(*z), z)


def relative_error(computed, exact):
    return float((computed.double() - exact).norm() / exact.norm())


# The formulas again, element by element.


def distance(potential, a, b):
    if potential.loss == "infonce-cosine":
        return -(a @ b) / math.sqrt((a @ a) * (b @ b))
    mean_square = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / len(a)
    return mean_square if potential.loss == "infonce-l2" else math.sqrt(mean_square)


def correlations(potential, z, z_plus):
    n, d = z.shape

    def moments(column):
        mean = sum(column) / n
        variance = sum((v - mean) ** 2 for v in column) / n
        return mean, (math.sqrt(variance) if potential.normalization == "standardized" else 1.0)

    c = np.zeros((d, d))
    for i, j in itertools.product(range(d), repeat=2):
        (mean_a, scale_a), (mean_b, scale_b) = moments(z[:, i]), moments(z_plus[:, j])
        c[i, j] = sum((z[k, i] - mean_a) * (z_plus[k, j] - mean_b) for k in range(n)) / (n * scale_a * scale_b)
    return c


def slow_disperse(z, p):
    pairs = list(itertools.product(range(len(z)), repeat=2))
    if p.loss == "covariance":
        return float((correlations(p, z, z) ** 2).mean())
    table = [distance(p, z[i], z[j]) for i, j in pairs]
    if p.loss == "hinge":
        return sum(max(0.0, p.epsilon - d) ** 2 for d in table) / len(pairs)
    return math.log(sum(math.exp(-d / p.tau) for d in table) / len(pairs))


def slow_contrast(z, z_plus, p):
    n = len(z)
    if p.loss == "covariance":
        c, d = correlations(p, z, z_plus), z.shape[1]
        off = sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / (d * (d - 1))
        return sum((1 - c[i, i]) ** 2 for i in range(d)) / d + p.offdiagonal * off
    total = 0.0
    for i in range(n):
        row = [distance(p, z[i], z_plus[j]) for j in range(n)]
        if p.loss == "hinge":
            below = [max(0.0, p.epsilon - row[j]) ** 2 for j in range(n) if j != i]
            total += (row[i] ** 2 + sum(below) / (n - 1)) / n
        else:
            total += (row[i] / p.tau + math.log(sum(math.exp(-d / p.tau) for d in row))) / n
    return total


@each
def test_each_loss_is_its_formula(potential):
    z, z_plus = views()
    assert disperse(z, potential).item() == pytest.approx(slow_disperse(z.numpy(), potential), abs=1e-10)
    expected = slow_contrast(z.numpy(), z_plus.numpy(), potential)
    assert contrast(z, z_plus, potential).item() == pytest.approx(expected, abs=1e-10)


@each
def test_gradients_are_those_of_the_values(potential):
    z, z_plus = (view.requires_grad_() for view in views(5, 4))
    assert torch.autograd.gradcheck(lambda a: disperse(a, potential), (z,))
    assert torch.autograd.gradcheck(lambda a, b: contrast(a, b, potential), (z, z_plus))
    assert torch.autograd.gradcheck(lambda a: disperse(a, potential, 3), (views(6, 4)[0].requires_grad_(),))


def test_gram_matrices_differentiate_whatever_is_done_with_them():
    """Also where the gradient is not symmetric, and over several stretches of features."""
    z, z_plus = (view.requires_grad_() for view in views(3, 4))
    assert torch.autograd.gradcheck(gram, (z,))
    assert torch.autograd.gradcheck(gram, (z, z_plus))
    wide = torch.randn(2, 3, 40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(wide), torch.einsum("gid,gjd->gij", wide, wide))


@pytest.mark.parametrize("name", ["infonce-l2", "infonce-cosine"])
def test_contrastive_infonce_is_a_cross_entropy(name):
    z, z_plus = views(8, 6)
    potential = Potential(name, tau=0.3)
    if name == "infonce-l2":
        distances = torch.cdist(z, z_plus) ** 2 / 6
    else:
        distances = -F.cosine_similarity(z[:, None], z_plus[None], dim=-1)
    expected = F.cross_entropy(-distances / 0.3, torch.arange(8))
    torch.testing.assert_close(contrast(z, z_plus, potential), expected, rtol=1e-12, atol=0)


def test_dispersive_is_contrastive_with_the_attraction_removed():
    """Of one view against itself; the diagonal apart for hinge and covariance, Jensen's inequality for InfoNCE."""
    z, _ = views(6, 5)
    n, d = z.shape
    hinge = Potential("hinge", epsilon=2.0)
    repulsion = contrast(z, z, hinge)  # a view and itself attract with nothing
    torch.testing.assert_close(disperse(z, hinge), (n - 1) / n * repulsion + hinge.epsilon**2 / n)
    covariance = Potential("covariance")  # the diagonal of a correlation matrix is 1
    torch.testing.assert_close(disperse(z, covariance), (d - 1) / d * contrast(z, z, covariance) + 1 / d)
    for potential in (Potential("infonce-l2"), Potential("infonce-cosine")):
        repel = TABLE_1[potential.loss].repel
        per_anchor = repel(z, z, potential) - math.log(n)
        assert per_anchor < disperse(z, potential)
        circle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)  # all anchors alike: Jensen's equality
        z_even = torch.stack((circle.cos(), circle.sin()), 1)
        torch.testing.assert_close(repel(z_even, z_even, potential) - math.log(n), disperse(z_even, potential))


@pytest.mark.parametrize(("block", "key"), [("sit.block3", ""), ("sit.block1", "_block1")])
def test_official_value(block, key):
    z = GOLDEN[block].flatten(1)
    value = disperse(z, Potential("infonce-l2", tau=1.0))
    torch.testing.assert_close(value, GOLDEN[f"sit.disp_infonce_l2_tau1{key}"][0], rtol=1e-5, atol=0)


@each
@pytest.mark.parametrize("kind", ["duplicate rows", "all rows equal", "a group of two", "a constant feature"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_in_degenerate_groups(potential, kind, dtype):
    z, z_plus = views(2 if kind == "a group of two" else 6, 5, dtype)
    if kind == "duplicate rows":
        z[1], z_plus[2] = z[0], z[3]
    elif kind == "all rows equal":
        z[:], z_plus[:] = z[0], z[0]
    elif kind == "a constant feature":
        z[:, 0], z_plus[:, 0] = 3.3, 3.3
    for computed in (
        gradient(lambda a: disperse(a, potential), z),
        gradient(lambda a, b: contrast(a, b, potential), z, z_plus),
    ):
        assert all(g.isfinite().all() and g.abs().max() < 1e3 for g in computed)


def test_rows_that_coincide_do_not_disturb_the_hinge_gradient():
    """The root of a rounding error would be a distance, and its gradient noise, where the true one is 0."""
    z = torch.randn(16, 3000, generator=torch.Generator().manual_seed(0)) + 10
    z[5] = z[3]
    potential = Potential("hinge", epsilon=3.0)
    (computed,), (exact,) = (gradient(lambda a: disperse(a, potential), view) for view in (z, z.double()))
    assert relative_error(computed, exact) < 3e-6
    computed = gradient(lambda a, b: contrast(a, b, potential), z, z.roll(1, 0))  # z_i coincides with z_{i+1}⁺
    exact = gradient(lambda a, b: contrast(a, b, potential), z.double(), z.double().roll(1, 0))
    assert all(relative_error(f, e) < 3e-6 for f, e in zip(computed, exact, strict=True))


def test_distances_where_the_gradient_of_the_root_is_infinite():
    """Each distance on its own, so that nothing above (a clamp, say) hides the zero diagonal."""
    z, z_plus = views(4, 3)
    z_plus[1] = z[2]
    weights = torch.arange(16, dtype=torch.float64).view(4, 4)
    (computed,) = gradient(lambda a: (weights * distances(a)).sum(), z)
    difference = F.normalize(z[:, None] - z[None], dim=-1)
    torch.testing.assert_close(computed, ((weights + weights.T)[..., None] * difference).sum(1))
    (computed,) = gradient(lambda a: (weights * distances(a, z_plus)).sum(), z)
    difference = F.normalize(z[:, None] - z_plus[None], dim=-1)
    torch.testing.assert_close(computed, (weights[..., None] * difference).sum(1))


@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_float32_gradients_hold_a_shared_mean_and_whatever_precision_the_network_runs_in(mean, precision):
    z = torch.randn(64, 20_000, generator=torch.Generator().manual_seed(0)) + mean
    potential = Potential("infonce-l2")
    (exact,) = gradient(lambda a: disperse(a, potential), z.double())
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):  # the backward pass too, inside
            (computed,) = gradient(lambda a: disperse(a, potential), z)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert relative_error(computed, exact) < 1e-6


@each
def test_large_shared_mean(potential):
    """The cosine loses most: its unit vectors, a hundredth apart, are rounded before they are compared."""
    tolerance = {"infonce-l2": 1e-6, "infonce-cosine": 3e-5, "hinge": 1e-5, "covariance": 1e-5}[potential.loss]
    z, z_plus = (view + 100 for view in views(32, 300, torch.float32))
    potential = replace(potential, epsilon=3.0)
    (computed,), (exact,) = (gradient(lambda a: disperse(a, potential), view) for view in (z, z.double()))
    assert relative_error(computed, exact) < tolerance
    for computed, exact in zip(
        gradient(lambda a, b: contrast(a, b, potential), z, z_plus),
        gradient(lambda a, b: contrast(a, b, potential), z.double(), z_plus.double()),
        strict=True,
    ):
        assert relative_error(computed, exact) < tolerance


@each
def test_half_precision_comes_in_and_float32_goes_on(potential):
    z, z_plus = views(8, 16, torch.bfloat16)
    assert disperse(z, potential).dtype == torch.float32
    assert disperse(z, potential) == disperse(z.float(), potential)
    assert contrast(z, z_plus, potential) == contrast(z.float(), z_plus.float(), potential)
    assert disperse(z.half(), potential) == disperse(z.half().float(), potential)


@each
def test_groups_are_separate_calls_averaged(potential):
    z, z_plus = views(12, 5)
    apart = torch.stack([disperse(group, potential) for group in z.split(4)]).mean()
    torch.testing.assert_close(disperse(z, potential, 4), apart, rtol=1e-12, atol=0)
    apart = torch.stack([contrast(a, b, potential) for a, b in zip(z.split(4), z_plus.split(4), strict=True)]).mean()
    torch.testing.assert_close(contrast(z, z_plus, potential, 4), apart, rtol=1e-12, atol=0)


def test_floor_is_reached_by_the_best_arrangement_and_never_undercut():
    n = 6
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n  # N rows in N − 1 dimensions, all cosines −1/(N−1)
    for potential, best in [
        (Potential("infonce-l2"), 1e3 * simplex),
        (Potential("infonce-cosine", tau=0.4), simplex),
        (Potential("hinge", epsilon=1.5), 1e3 * simplex),
        (Potential("covariance"), _orthogonal_features(n)),
        (Potential("covariance", normalization="centered"), torch.ones(n, 4, dtype=torch.float64)),
    ]:
        lowest = floor(potential, n)
        assert disperse(best, potential).item() == pytest.approx(lowest, abs=1e-12)
        for seed in range(20):
            assert disperse(views(n, 9, seed=seed)[0], potential) >= lowest - 1e-12


def _orthogonal_features(n):
    """N rows whose standardised features have N − 1 equal eigenvalues: the N − 1 waves of a discrete Fourier basis."""
    k, i = torch.arange(1, n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    return ((2 * math.pi * k * i / n).cos() + (2 * math.pi * k * i / n).sin()).T


@pytest.mark.parametrize("n", [16, 32, 64])
def test_gaussians_of_many_dimensions_are_all_as_far_apart(n):
    """D(z_i, z_j) → 2 off the diagonal and 0 on it: log(1/N + (1 − 1/N) e^(−2/τ)), lower the larger the group."""
    z = torch.randn(n, 200_000, generator=torch.Generator().manual_seed(n))
    expected = math.log(1 / n + (1 - 1 / n) * math.exp(-2 / 0.8))
    assert disperse(z, Potential("infonce-l2", tau=0.8)).item() == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(
    ("shape", "group", "match"),
    [
        ((1, 4), None, r"two samples.*found 1, in features \(1, 4\)"),
        ((4, 3), 1, "two samples"),
        ((6, 3), 4, "a batch of 6 cannot be cut into groups of 4"),
        ((0, 3), 4, r"shape \(batch, …\) are expected, found \(0, 3\)"),
        ((4, 0), None, r"found \(4, 0\)"),
        ((), None, r"found \(\)"),
    ],
)
def test_what_forms_no_pairs_is_refused_with_the_reason(shape, group, match):
    for loss in TABLE_1:
        with pytest.raises(ValueError, match=match):
            disperse(torch.zeros(shape), Potential(loss), group)
        with pytest.raises(ValueError, match=match):
            contrast(torch.zeros(shape), torch.zeros(shape), Potential(loss), group)


def test_whole_numbers_and_views_of_two_shapes_are_refused():
    with pytest.raises(TypeError, match=r"floating-point features are expected, found torch\.int64"):
        disperse(torch.arange(6), Potential("hinge"))
    with pytest.raises(ValueError, match=r"one shape.*\(4, 3\) and \(3, 4\)"):
        contrast(torch.zeros(4, 3), torch.zeros(3, 4), Potential("hinge"))


MEMORY = """
import resource, torch
from harness.method.distances import distances, gram
from harness.method.losses import Potential, disperse
potential = Potential("covariance")
torch.autograd.grad(disperse(z := torch.randn(4, 32, requires_grad=True), potential), z)
z = torch.randn(256, 196_608).requires_grad_()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.autograd.grad(disperse(z, potential), z)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def test_covariance_of_196608_features_fits_in_two_gibibytes():
    """D × D would be 144 GiB; the peak of the process counts everything."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2


# Which pairs are pushed apart.


def two_views(*shape: int) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, *shape, generator=generator(0, "views", 0))
    return z[0], z[1]


def loop_weights(z: np.ndarray, other: np.ndarray, distance, tau: float, one_view: bool) -> np.ndarray:
    """exp(−D/τ) over the sum that the loss's logarithm is taken of, times the number of its terms."""
    kernel = np.array([[math.exp(-distance(a, b) / tau) for b in other] for a in z])
    return kernel / (kernel.mean() if one_view else kernel.mean(1, keepdims=True))


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(("loss", "tau"), [("infonce-l2", 0.2), ("infonce-cosine", 0.07)])
def test_infonce_pairs_against_loops(loss: str, tau: float, two: bool):
    z, z_plus = two_views(7, 3)
    cosine = loss == "infonce-cosine"

    def distance(a, b) -> float:
        return -(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) if cosine else ((a - b) ** 2).mean()

    health = pair_health(z, z_plus if two else None, Potential(loss, tau=tau))
    a, b = z.double().numpy(), (z_plus if two else z).double().numpy()
    weights = loop_weights(a, b, distance, tau, not two)
    between = np.array([weights[i, j] for i, j in permutations(range(7), 2)])
    assert 0 < float(health["saturated_pairs"]) < 1
    assert float(health["saturated_pairs"]) == pytest.approx(np.mean(between < 1e-3))
    kernel = np.array([math.exp(-distance(a[i], b[j]) / tau) for i, j in permutations(range(7), 2)])
    shares = kernel / kernel.sum()
    entropy = -sum(share * math.log(share) for share in shares if share)
    assert float(health["pair_evenness"]) == pytest.approx(math.exp(entropy) / 42, rel=1e-4)


def test_the_ends_of_the_temperature():
    z, _ = two_views(3, 6, 10)
    hot, cold = (pair_health(z.flatten(0, 1), None, Potential("infonce-l2", tau=tau), 6) for tau in (1e4, 1e-3))
    assert (float(hot["saturated_pairs"]), float(cold["saturated_pairs"])) == (0, 1)
    assert float(hot["pair_evenness"]) == pytest.approx(1, abs=1e-3)
    assert float(cold["pair_evenness"]) < 0.1


def test_hinge_pairs_are_counted_beyond_the_margin():
    z, _ = two_views(2, 6, 5)
    apart = [math.sqrt(float((g[i] - g[j]).square().mean())) for g in z for i, j in permutations(range(6), 2)]
    margin = float(np.median(apart)) + 0.01
    health = pair_health(z.flatten(0, 1), None, Potential("hinge", epsilon=margin), 6)
    assert health.keys() == {"saturated_pairs"}
    assert float(health["saturated_pairs"]) == pytest.approx(np.mean(np.array(apart) >= margin))
    assert pair_health(z, None, Potential("covariance")) == {}
