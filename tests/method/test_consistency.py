"""iCT against a loop over samples, the exact consistency functions of points and Gaussians, and its curriculum."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from harness.method.guidance import CountedNet
from harness.method.objective import draw
from harness.method.processes.consistency import ConsistencyTraining, denoise, sample

MEAN, DEVIATION = 0.7, 0.4
PROCESS = ConsistencyTraining(steps=800)
FINEST = PROCESS.at_step(800)


def network(f):
    """The network F for which c_skip x + c_out F is f(x, σ, y)."""

    def net(scaled, times, y, taps=()):
        sigma = times[0].exp().view(-1, 1, 1, 1)
        x = scaled * (sigma**2 + 0.25).sqrt()
        c_skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
        c_out = 0.5 * (sigma - 0.002) / (sigma**2 + 0.25).sqrt()
        return (f(x, sigma, y.view(-1, 1, 1, 1)) - c_skip * x) / c_out, []

    return net


def points(x, sigma, y):
    """Exact where the data of a label are one image, y/10."""
    return y / 10 + 0.002 / sigma * (x - y / 10)


def gaussian(power=1.0):
    """f where the data are N(MEAN, DEVIATION²) and the power is 1; any power leaves the smallest level as it is."""

    def f(x, sigma, y):
        shrink = ((DEVIATION**2 + 0.002**2) / (DEVIATION**2 + sigma**2)).sqrt()
        return MEAN + shrink**power * (x - MEAN)

    return f


def formula(x, log_sigma, y, lib):
    return lib.sin(1.3 * x + 2 * log_sigma) + 0.1 * y - 0.3


def net(x, times, y, taps=()):
    log_sigma, label = (a.double().view(-1, 1, 1, 1) for a in (*times, y))
    return formula(x, log_sigma, label, torch), []


def test_loss_of_a_loop_over_samples():
    """Pseudo-Huber distance with c = 0.00054 √D, weight 1/(σ − σ'), EDM's c_skip, c_out and c_in."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 6, 2, 3, 3, generator=generator, dtype=torch.float64)
    y, t = torch.arange(6) % 5, PROCESS.draw_times(6, generator).double()
    loss, _ = PROCESS.loss(net, x, y, t, noise)
    for i in range(6):
        data, e, label = (a[i].numpy() for a in (x, noise, y))
        high, low = (math.exp(v) for v in t[i].tolist())

        def f(sigma, data=data, e=e, label=label):
            z = data + sigma * e
            out = formula(z / math.sqrt(sigma**2 + 0.25), math.log(sigma), label, np)
            return 0.25 / ((sigma - 0.002) ** 2 + 0.25) * z + 0.5 * (sigma - 0.002) / math.sqrt(sigma**2 + 0.25) * out

        c = 0.00054 * math.sqrt(data.size)
        distance = math.sqrt(((f(high) - f(low)) ** 2).sum() + c**2) - c
        assert loss[i].item() == pytest.approx(distance / (high - low), rel=1e-9)


def test_the_target_carries_no_gradient():
    calls = []

    def watched(z, times, y, taps=()):
        out = net(z, times, y)[0] * torch.ones((), requires_grad=True)
        calls.append(out.requires_grad)
        return out, []

    x, t = torch.zeros(4, 1, 2, 2), PROCESS.draw_times(4, torch.Generator())
    assert PROCESS.loss(watched, x, torch.zeros(4), t, x + 1)[0].requires_grad
    assert calls == [True, False]


def test_the_exact_function_of_points_has_no_loss_and_one_step_reaches_them():
    y = torch.arange(64) % 10
    x = (y / 10).double().view(-1, 1, 1, 1)
    noise = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = PROCESS.draw_times(64, torch.Generator().manual_seed(0)).double()
    t = torch.where(t < math.log(0.0021), math.log(0.0021), t)  # F has no value at the smallest level
    assert FINEST.loss(network(points), x, y, t, noise)[0].max() < 1e-9
    counted = CountedNet(network(points))
    torch.testing.assert_close(sample(counted, noise, y), x, rtol=0, atol=0.01)
    assert counted.evaluations_per_image(64) == 1


def test_a_gaussians_function_reaches_its_law_and_is_where_the_gradient_vanishes():
    noise, y = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1), torch.zeros(9)
    x = sample(network(gaussian()), noise, y)
    torch.testing.assert_close(x, MEAN + DEVIATION * noise, rtol=0, atol=0.01)  # 80 noise stands for x + 80 noise

    n, generator = 400_000, torch.Generator().manual_seed(0)
    data, e = torch.randn(2, n, 1, 1, 1, generator=generator, dtype=torch.float64)
    t, y = FINEST.draw_times(n, generator).double(), torch.zeros(n)
    keep = t[:, 1] > math.log(0.0021)

    def slope(power):
        """Of the loss in the power, the target being a constant."""
        power = torch.tensor(power, requires_grad=True, dtype=torch.float64)
        loss, _ = FINEST.loss(network(gaussian(power)), MEAN + DEVIATION * data[keep], y[keep], t[keep], e[keep])
        return torch.autograd.grad(loss.mean(), power)[0].item()

    low, exact, high = slope(0.8), slope(1.0), slope(1.25)
    assert low < -10 * abs(exact)
    assert high > 10 * abs(exact)


def test_the_smallest_level_is_the_image_itself():
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    f, _ = denoise(net, x, torch.full((3,), math.log(0.002), dtype=torch.float64), torch.zeros(3))
    torch.testing.assert_close(f, x, rtol=0, atol=1e-12)


def test_the_curriculum_doubles_the_levels():
    counts = [len(PROCESS.at_step(step).levels()) for step in (0, 99, 100, 199, 300, 700, 799, 800, 10_000)]
    assert counts == [11, 11, 21, 21, 81, 1281, 1281, 1281, 1281]
    short = ConsistencyTraining(steps=200, finest=20)
    assert [len(short.at_step(step).levels()) for step in (0, 99, 100, 10_000)] == [11, 11, 21, 21]
    for levels in (PROCESS.levels(), FINEST.levels()):
        assert levels[0].item() == pytest.approx(0.002)
        assert levels[-1].item() == pytest.approx(80)
        assert levels.pow(1 / 7).diff().std() < 1e-12
    early, late = (draw(PROCESS, (), (512, 1, 1, 1), 0.0, seed=0, step=step).t for step in (0, 799))
    assert len(early.unique()) <= 11 < len(late.unique())
    assert ((late[:, 0] - late[:, 1]).max() < (early[:, 0] - early[:, 1]).min()).item()


def test_levels_are_drawn_as_a_lognormal_falls_on_them():
    t = PROCESS.draw_times(100_000, torch.Generator().manual_seed(0)).double()
    log_levels = PROCESS.levels().log()
    i = torch.searchsorted(log_levels + 1e-6, t[:, 0].contiguous())
    torch.testing.assert_close(t[:, 1], log_levels[i - 1], rtol=0, atol=1e-5)
    mass = np.diff(norm.cdf(log_levels.numpy(), -1.1, 2.0))
    shares = torch.bincount(i - 1, minlength=10) / len(t)
    np.testing.assert_allclose(shares.numpy(), mass / mass.sum(), atol=0.005)
