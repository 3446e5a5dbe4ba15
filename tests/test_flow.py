"""SiT's process against the public code's values and against the exact velocity of a Gaussian."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_backbone import NULL, given

from harness.method import flow
from harness.method.guidance import CountedNet, guided
from harness.method.losses import Potential, disperse

GOLDEN = load_file(Path(__file__).parent / "golden" / "disp_given.safetensors")
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


def test_sde_keeps_the_law_of_a_gaussian():
    """Mean and variance of 40,000 end points, three standard errors and the step's own bias apart."""
    n = 40_000
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 1, 1, 1, generator=generator)
    x = flow.sample(
        gaussian_velocity,
        noise,
        torch.zeros(n, dtype=torch.long),
        "euler-maruyama",
        96,
        step_noise=lambda k: torch.randn(n, 1, 1, 1, generator=generator),
        last_step=0.01,
    )
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.std().item() == pytest.approx(DEVIATION, abs=0.01)


def test_path_runs_from_noise_to_data():
    x, noise = torch.ones(3, 2, 2, 2), torch.full((3, 2, 2, 2), -2.0)
    mixed = flow.interpolate(x, torch.tensor([0.0, 0.5, 1.0]), noise)
    assert mixed[:, 0, 0, 0].tolist() == [-2.0, -0.5, 1.0]
    perfect = flow.loss(lambda x_t, times, y, taps=(): (torch.full_like(x_t, 3.0), []), x, Y, torch.rand(3), noise)
    assert not perfect[0].any()


def test_times_are_uniform():
    t = flow.draw_times(20_000, torch.Generator().manual_seed(0)).sort().values
    assert (t - torch.linspace(0, 1, 20_000)).abs().max() < 0.015  # Kolmogorov–Smirnov: 0.0096 at 5%
