"""Inductive moment matching against a loop over groups, a Gaussian's exact jumps, and the official code's constants."""

import math

import numpy as np
import pytest
import torch

from harness.method.guidance import CountedNet, guided
from harness.method.processes import imm

MEAN, DEVIATION = 0.7, 0.4
PROCESS = imm.InductiveMomentMatching()


def law(t):
    """Mean and deviation of x_t where data are N(MEAN, DEVIATION²)."""
    return (1 - t) * MEAN, ((1 - t) ** 2 * DEVIATION**2 + t**2) ** 0.5


def gaussian_net(stretch=1.0):
    """F of the jump that carries the law of x_t to that of x_s; stretch: of its deviation, 1 is the truth."""

    def net(scaled, times, y, taps=()):
        t, span = (a.view(-1, 1, 1, 1) for a in times)
        x_t = scaled * ((1 - t) ** 2 + t**2).sqrt()
        (mean, sigma), (mean_s, sigma_s) = law(t), law(t - span)
        return (x_t - mean_s - stretch * sigma_s / sigma * (x_t - mean)) / span.clamp(min=1e-12), []

    return net


def formula(x, t, span, y, lib):
    return lib.sin(1.3 * x + 2 * t - span) + 0.1 * y - 0.3


def net(x, times, y, taps=()):
    t, span, label = (a.double().view(-1, 1, 1, 1) for a in (*times, y))
    return formula(x, t, span, label, torch), []


def given(n=12):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, n, 2, 3, 3, generator=generator, dtype=torch.float64)
    return x, torch.arange(n) % 5, PROCESS.draw_times(n, generator).double(), noise


def test_loss_of_a_loop_over_groups():
    """Eq. 12, 13 and 67, with the official code's a, b, k and smallest gap; diagonals count."""
    x, y, t, noise = given()
    t[:4] = torch.tensor([0.7, 0.4])
    t[4:8] = torch.tensor([0.02, 0.015])  # where r falls to s
    t[8:] = torch.tensor([0.993, 0.5])  # where the decrement is below the smallest gap
    loss, _ = PROCESS.loss(net, x, y, t, noise)
    arrays = [a.numpy() for a in (x, noise, y)]
    expected = []
    for g in range(3):
        data, e, labels = (a[4 * g : 4 * g + 4] for a in arrays)
        now, span = t[4 * g].tolist()
        s = now - span
        eta = max(now / (1 - now) - 0.994 / 0.006 / 4096, 0)
        r = max(min(eta / (1 + eta), now - 1e-4), s)
        assert (r == s) == (g == 1)

        def jumps(time, data=data, e=e, labels=labels, s=s):
            x_t = (1 - time) * data + time * e
            given = x_t / math.hypot(1 - time, time)
            return x_t - (time - s) * formula(given, time, time - s, labels[:, None, None, None], np)

        def kernel(a, b, span=span):
            return math.exp(-max(math.sqrt(((a - b) ** 2).sum()), 1e-4) / a.size / span)

        a, b = jumps(now), jumps(r)
        rows = [
            np.mean([kernel(p, q) + kernel(u, v) - 2 * kernel(p, v) for q, v in zip(a, b, strict=True)])
            for p, u in zip(a, b, strict=True)
        ]
        log_snr = 2 * math.log((1 - now) / now)
        slope = 2 / (now * (1 - now))
        weight = 0.5 / (1 + math.exp(log_snr - 4)) * slope * (1 - now) ** 2 / ((1 - now) ** 2 + now**2)
        expected += [weight * row for row in rows]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert loss.abs().min() > 1e-9


def test_the_target_carries_no_gradient():
    x, y, t, noise = given(4)
    calls = []

    def watched(z, times, labels, taps=()):
        out = net(z, times, labels)[0] * torch.ones((), requires_grad=True)
        calls.append(out.requires_grad)
        return out, []

    assert PROCESS.loss(watched, x, y, t, noise)[0].requires_grad
    assert calls == [True, False]


@pytest.mark.parametrize("t", [0.2, 0.6, 0.9])
def test_a_gaussians_jumps_are_the_least_discrepancy(monkeypatch, t):
    """Between large groups of independent samples it is nearly zero for the exact jumps, and more for others."""
    n = 1500
    monkeypatch.setattr(imm, "PARTICLES", n)
    generator = torch.Generator().manual_seed(0)
    x, e, x_r, e_r = torch.randn(4, n, 1, 1, 1, generator=generator, dtype=torch.float64)
    times = torch.tensor(t, dtype=torch.float64).expand(n)
    s = 0.3 * times
    r, y = PROCESS.earlier(times, s), torch.zeros(n, dtype=torch.long)

    def jumps(stretch, t, x, e):
        x_t = (1 - t).view(-1, 1, 1, 1) * (MEAN + DEVIATION * x) + t.view(-1, 1, 1, 1) * e
        return imm.jump(gaussian_net(stretch), x_t, t, t - s, y)[0]

    target = jumps(1.0, r, x_r, e_r)
    values = [imm.discrepancy(jumps(c, times, x, e), target, times - s).mean().item() for c in (0.7, 1.0, 1.4)]
    assert values[1] < 4 / n
    assert values[1] < 0.2 * min(values[0], values[2])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_gaussians_jumps_carry_its_law_whatever_the_steps(steps):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    y = torch.zeros(9, dtype=torch.long)
    mean, sigma = law(0.994)
    expected = MEAN + DEVIATION / sigma * (noise - mean)  # noise stands for x_T
    torch.testing.assert_close(imm.sample(gaussian_net(), noise, y, steps), expected, rtol=1e-10, atol=1e-10)
    assert (expected - MEAN - DEVIATION * noise).abs().max() < 0.01


def test_one_guided_step_is_two_evaluations():
    """NFE of the paper's Table 7b; the network's F is guided, not the jump, which is the same."""
    noise, y = torch.randn(3, 2, 3, 3, dtype=torch.float64), torch.arange(3)
    counted = CountedNet(net)
    x = imm.sample(guided(counted, 1.25, "all", null_label=5), noise, y, 1)
    assert counted.evaluations_per_image(3) == 2
    conditional, null = (imm.sample(net, noise, labels, 1) for labels in (y, torch.full_like(y, 5)))
    torch.testing.assert_close(x, null + 1.25 * (conditional - null))


def test_four_samples_share_their_times():
    t = PROCESS.draw_times(40_000, torch.Generator().manual_seed(0)).double()
    groups = t.view(-1, 4, 2)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    now, share = groups[:, 0, 0] / 0.994, groups[:, 0, 1] / groups[:, 0, 0]
    for uniform in (now, share):
        assert uniform.min() > 0
        assert uniform.max() <= 1
        assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
        assert uniform.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert torch.corrcoef(torch.stack((now, share)))[0, 1].abs() < 0.03
    assert len(PROCESS.draw_times(7, torch.Generator())) == 7


def test_r_lies_between_s_and_t_and_loss_and_gradient_are_finite_at_all_times():
    t = PROCESS.draw_times(4 * 5000, torch.Generator().manual_seed(1))
    s = t[:, 0] - t[:, 1]
    r = PROCESS.earlier(t[:, 0], s)
    assert (r >= s).all()
    assert (r < t[:, 0]).all()
    x = torch.zeros(len(t), 1, 2, 2)
    weight = torch.ones((), requires_grad=True)

    def same(z, times, y, taps=()):
        return weight * z.detach().sign(), []

    loss, _ = PROCESS.loss(same, x, torch.zeros(len(t)), t, x)  # jumps that are all equal
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), weight)[0].isfinite()
