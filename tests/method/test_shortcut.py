"""Shortcut models against a loop over samples, a Gaussian's exact steps, and the paper's sampling of times."""

import numpy as np
import pytest
import torch

from harness.method.guidance import CountedNet
from harness.method.objective import draw
from harness.method.processes.shortcut import Shortcut, sample

MEAN, DEVIATION = 0.7, 0.4
NULL = 10


def gaussian_step(x, times, y, taps=()):
    """(x_{t+d} − x_t)/d where data are N(MEAN, DEVIATION²): the flow keeps (x_t − t MEAN)/σ_t."""
    t, k = (a.view(-1, 1, 1, 1) for a in times)
    d = 2.0**-k
    sigma, later = (((1 - s) ** 2 + s**2 * DEVIATION**2).sqrt() for s in (t, t + d))
    return ((t + d) * MEAN + later / sigma * (x - t * MEAN) - x) / d, []


def formula(x, t, k, y, lib, shift=0.0):
    """A network in closed form that depends on all that it is given."""
    return 2 * lib.sin(1.3 * x + 2 * t + 0.4 * k + shift) + 0.1 * y - 0.3


def network(shift=0.0):
    def net(x, times, y, taps=()):
        t, k, label = (a.double().view(-1, 1, 1, 1) for a in (*times, y))
        return formula(x, t, k, label, torch, shift), []

    return net


def given(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = 4 * torch.randn(2, n, 2, 3, 3, generator=generator, dtype=torch.float64)
    t = Shortcut(NULL).draw_times(n, generator).double()
    t[3], t[7] = torch.tensor([31 / 64, 6.0]), torch.tensor([0.25, 2.0])  # a pair of smallest steps, and a larger one
    return x, torch.arange(n) % NULL, t, noise


def test_loss_of_a_loop_over_samples():
    """Algorithm 1, and the official code's clipping and guidance, which is only in targets of the smallest steps."""
    (x, y, t, noise), omega = given(), 1.5
    y[0] = NULL
    process = Shortcut(NULL, omega).with_average(network(shift=0.5))
    loss, _ = process.loss(network(), x, y, t, noise)
    clipped = 0
    for i in range(len(x)):
        data, e, now, k, label = (a[i].numpy() for a in (x, noise, t[:, 0], t[:, 1], y))
        x_t = now * data + (1 - now) * e
        target = data - e
        if k < 7:

            def step(z, time, k=k + 1, label=label):
                conditional, null = (formula(z, time, k, c, np, 0.5) for c in (label, NULL))
                return null + omega * (conditional - null) if k == 7 else conditional

            first = step(x_t, now)
            middle = np.clip(x_t + first / 2 ** (k + 1), -4, 4)
            clipped += (np.abs(middle) == 4).sum()
            target = np.clip((first + step(middle, now + 1 / 2 ** (k + 1))) / 2, -4, 4)
        error = formula(x_t, now, k, label, np) - target
        assert loss[i].item() == pytest.approx((error**2).mean(), rel=1e-12)
    assert clipped


def test_a_gaussians_steps_are_their_own_targets():
    """At every size: two exact half steps are the exact step."""
    n, process = 70, Shortcut(NULL).with_average(gaussian_step)
    k = torch.arange(n).double() % 7
    t = torch.stack(((torch.rand(n, dtype=torch.float64) * 2**k).floor() / 2**k, k), dim=1)
    x, y = torch.linspace(-2, 2, n, dtype=torch.float64).view(n, 1, 1, 1), torch.zeros(n, dtype=torch.long)
    expected, _ = gaussian_step(x, t.unbind(1), y)
    torch.testing.assert_close(process.two_half_steps(x, t, y, process.split(t)[1]), expected, rtol=1e-10, atol=1e-10)
    noise, moving = torch.zeros_like(x), torch.rand(n, 1, 1, 1, dtype=torch.float64)
    assert process.loss(gaussian_step, moving, y, t, noise)[0].max() < 1e-18


@pytest.mark.parametrize("steps", [1, 2, 4, 128])
def test_a_gaussians_steps_reach_its_law(steps):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    counted = CountedNet(gaussian_step)
    x = sample(counted, noise, torch.zeros(9, dtype=torch.long), steps)
    torch.testing.assert_close(x, MEAN + DEVIATION * noise, rtol=1e-10, atol=1e-10)
    assert counted.evaluations_per_image(9) == steps


def test_targets_carry_no_gradient_and_need_an_average():
    x, y, t, noise = given()
    scale = torch.ones((), requires_grad=True, dtype=torch.float64)

    def average(x, times, y, taps=()):
        return scale * gaussian_step(x, times, y)[0], []

    loss, _ = Shortcut(NULL).with_average(average).loss(network(), x, y, t, noise)
    assert not loss.requires_grad
    with pytest.raises(AssertionError, match="averaged network"):
        Shortcut(NULL).loss(network(), x, y, t, noise)


@pytest.mark.parametrize("every", [4, 8])
def test_times_are_multiples_of_the_step_and_one_in_so_many_is_larger_than_the_smallest(every):
    t = Shortcut(NULL, every=every).draw_times(7_000 * every, torch.Generator().manual_seed(0)).double()
    now, k = t.unbind(1)
    assert (now >= 0).all()
    assert (now + 2**-k <= 1).all()
    assert torch.equal(now * 2**k, (now * 2**k).round())
    for start in (0, 16, 8 * 977):  # a rank, a group, a micro-batch
        assert (k[start : start + 16] < 7).sum() == 16 // every
    assert torch.bincount(k[k < 7].long()).tolist() == pytest.approx([1000] * 7, abs=120)
    for level in (2, 7):
        places = torch.bincount((now * 2**k)[k == level].long(), minlength=2**level)
        assert places.double().std() < 2 * places.double().mean() ** 0.5


def test_labels_of_larger_steps_are_kept():
    d = draw(Shortcut(NULL), (), (4000, 1, 1, 1), 0.1, seed=0, step=0)
    assert 0.08 < d.dropped.float().mean() < 0.12
    assert d.dropped[d.t[:, 1] < 7].float().mean() < 0.002  # all four were drawn
