"""SiT's process against the public code's values and against the exact velocity of a Gaussian."""

import itertools

import pytest
import torch
from support.backbones import NULL, given
from support.backbones import SIT as GOLDEN

from harness.method.guidance import CountedNet, guided
from harness.method.losses import Potential, disperse
from harness.method.processes import flow

Z, Y = GOLDEN["ode.z"], GOLDEN["ode.y"]


def test_loss_per_sample_of_the_public_code():
    x, y, t, noise = (GOLDEN[f"flow.{name}"] for name in ("x1_data", "y", "t", "x0_noise"))
    net = given("sit")
    losses, (h,) = flow.loss(net, x, y, t, noise, taps=(3,))
    torch.testing.assert_close(losses, GOLDEN["flow.loss_per_sample"], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        net(flow.interpolate(x, t, noise), (t,), y)[0], GOLDEN["flow.pred"], rtol=1e-5, atol=1e-5
    )
    total = losses + 0.25 * disperse(h.flatten(1), Potential("infonce-l2", tau=1.0))
    torch.testing.assert_close(total, GOLDEN["flow.loss_plus_quarter_disp_lastblock"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("points", [5, 12])
@pytest.mark.parametrize(("method", "name"), [("euler", "euler"), ("heun", "heun2")])
def test_ode_end_points_of_the_public_code(method, name, points):
    """Their n steps are n grid points, n − 1 intervals."""
    x = flow.sample(given("sit"), Z, Y, method, points - 1)
    torch.testing.assert_close(x, GOLDEN[f"ode.{name}_{points}gridpoints"], rtol=1e-4, atol=1e-4)


def test_fine_heun_reaches_the_adaptive_solution():
    x = flow.sample(given("sit"), Z, Y, "heun", 60)
    torch.testing.assert_close(x, GOLDEN["ode.dopri5_tight"], rtol=1e-3, atol=1e-3)


def test_guided_heun_of_the_public_code_and_its_evaluations():
    counted = CountedNet(given("sit"))
    x = flow.sample(guided(counted, 1.5, "three", NULL), Z, Y, "heun", 7)
    torch.testing.assert_close(x, GOLDEN["ode.heun2_8gridpoints_cfg3ch_1.5"], rtol=1e-4, atol=1e-4)
    assert counted.images / len(Z) == 2 * 2 * 7


def test_sde_end_points_of_the_public_code():
    """9 grid points on [0, 0.96] and the mean step; on the linear path their "linear" diffusion is "sigma"."""
    counted = CountedNet(given("sit"))
    x = flow.sample(counted, Z, Y, "euler-maruyama", 8, step_noise=lambda k: GOLDEN["sde.noises"][k])
    for form in ("sigma", "linear"):
        torch.testing.assert_close(x, GOLDEN[f"sde.{form}.9steps_lastMean0.04"], rtol=1e-4, atol=1e-4)
    assert counted.evaluations_per_image(len(Z)) == 9


MEAN, DEVIATION = 0.7, 0.4


def gaussian_velocity(x, times, y, taps=()):
    """E[x₁ − x₀ | x_t] for data N(MEAN, DEVIATION²) and noise N(0, 1); its ODE maps x₀ to MEAN + DEVIATION · x₀."""
    t = times[0].view(-1, 1, 1, 1)
    slope = (t * DEVIATION**2 - (1 - t)) / (t**2 * DEVIATION**2 + (1 - t) ** 2)
    return MEAN + slope * (x - t * MEAN), []


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence_on_a_gaussian(method, order):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    y = torch.zeros(9, dtype=torch.long)
    exact = MEAN + DEVIATION * noise
    errors = [(flow.sample(gaussian_velocity, noise, y, method, n) - exact).abs().max().item() for n in (100, 200, 400)]
    for coarse, fine in itertools.pairwise(errors):
        assert torch.tensor(coarse / fine).log2().item() == pytest.approx(order, abs=0.1)


def sde_law(intervals, last_step):
    """(mean, variance) of end points, exactly: all is affine, so each noise's share is what a unit of it changes."""
    units = torch.eye(intervals + 1, dtype=torch.float64)
    impulses = torch.cat((torch.zeros(1, intervals + 1, dtype=torch.float64), units)).view(-1, intervals + 1, 1, 1, 1)
    y = torch.zeros(len(impulses), dtype=torch.long)

    def velocity(x, t):
        return gaussian_velocity(x, (x.new_full((len(x),), t),), y)[0]

    x = flow.euler_maruyama(velocity, impulses[:, 0], intervals, lambda k: impulses[:, k + 1], last_step).flatten()
    return x[0].item(), (x[1:] - x[0]).square().sum().item()


def test_sde_reaches_the_law_of_a_gaussian_at_weak_order_one():
    """The last step shrinks with the others; the mean is exact, the variance's error halves."""
    laws = [sde_law(n, last_step=1 / (n + 1)) for n in (100, 200, 400)]
    assert all(mean == pytest.approx(MEAN, abs=1e-12) for mean, _ in laws)
    errors = [abs(variance - DEVIATION**2) for _, variance in laws]
    for coarse, fine in itertools.pairwise(errors):
        assert torch.tensor(coarse / fine).log2().item() == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.01 * DEVIATION**2


def test_sde_with_the_public_codes_last_step_converges_at_weak_order_one():
    """To the exact law at t = 0.96, moved by one step of dx = ((1 + t) v − x) dt: that step's bias stays."""
    t = 0.96
    variance = t**2 * DEVIATION**2 + (1 - t) ** 2
    slope = (t * DEVIATION**2 - (1 - t)) / variance
    limit = variance * (1 + 0.04 * ((1 + t) * slope - 1)) ** 2
    errors = [abs(sde_law(n, last_step=0.04)[1] - limit) for n in (100, 200, 400)]
    for coarse, fine in itertools.pairwise(errors):
        assert torch.tensor(coarse / fine).log2().item() == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.002 * limit


def test_path_runs_from_noise_to_data():
    x, noise = torch.ones(3, 2, 2, 2), torch.full((3, 2, 2, 2), -2.0)
    mixed = flow.interpolate(x, torch.tensor([0.0, 0.5, 1.0]), noise)
    assert mixed[:, 0, 0, 0].tolist() == [-2.0, -0.5, 1.0]
    perfect = flow.loss(lambda x_t, times, y, taps=(): (torch.full_like(x_t, 3.0), []), x, Y, torch.rand(3), noise)
    assert not perfect[0].any()


def test_times_are_uniform():
    t = flow.draw_times(20_000, torch.Generator().manual_seed(0)).sort().values
    assert (t - torch.linspace(0, 1, 20_000)).abs().max() < 0.015  # Kolmogorov–Smirnov: 0.0096 at 5%
