"""Guidance and its interval: closed forms, loops in float64, and evaluations counted by the network."""

import numpy as np
import pytest
import torch
from support.backbones import NULL, given

from harness.method.guidance import CountedNet, GuidanceInterval, guided
from harness.method.processes import ddpm, flow, imm

N = 3
ZERO, Y = torch.zeros(N, 4, 1, 1, dtype=torch.float64), torch.zeros(N, dtype=torch.long)


def step_net(x, times, y, taps=()):
    """1 with a label and 0 without, in all channels."""
    return (y != NULL).to(x.dtype).view(-1, 1, 1, 1).expand_as(x), []


def test_without_bounds_it_is_plain_guidance_bit_for_bit():
    net, x = given("sit"), torch.randn(N, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, y = torch.tensor([0.0, 0.4, 1.0]), torch.arange(N)
    plain, everywhere = (guided(net, 1.7, "three", NULL, i) for i in (None, GuidanceInterval(flow.noise_level)))
    out, (h,) = plain(x, (t,), y, (2,))
    again, (h_again,) = everywhere(x, (t,), y, (2,))
    assert torch.equal(out, again)
    assert torch.equal(h, h_again)
    assert len(h) == N


def test_images_inside_are_guided_and_images_outside_are_not():
    """Each by its own time; σ = 3, 1 and 1/3, of which only 1 is above 1/3 and up to 1."""
    net, x = given("sit"), torch.randn(N, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, y, counted = torch.tensor([0.25, 0.5, 0.75]), torch.arange(N), CountedNet(given("sit"))
    out, _ = guided(counted, 1.7, "three", NULL, GuidanceInterval(flow.noise_level, 1 / 3, 1.0))(x, (t,), y)
    conditional, null = (net(x, (t,), labels)[0] for labels in (y, torch.full_like(y, NULL)))
    expected = conditional.clone()
    expected[1, :3] = null[1, :3] + 1.7 * (conditional[1, :3] - null[1, :3])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert counted.images == N + 1


@pytest.mark.parametrize(("above", "up_to"), [(None, 1.5), (0.6, None), (0.6, 1.5), (50.0, 60.0)])
def test_an_interval_of_sit_counts_its_steps(above, up_to):
    """Euler's n intervals begin at t = k/n; guidance adds scale − 1 to each that begins inside, and an evaluation."""
    n, scale, counted = 20, 3.0, CountedNet(step_net)
    low, high = above or 0.0, up_to or np.inf
    inside = sum(low < (np.inf if k == 0 else (n - k) / k) <= high for k in range(n))
    net = guided(counted, scale, "all", NULL, GuidanceInterval(flow.noise_level, above, up_to))
    x = flow.sample(net, ZERO, Y, "euler", n)
    torch.testing.assert_close(x, torch.full_like(x, 1 + (scale - 1) * inside / n))
    assert counted.evaluations_per_image(N) == n + inside
    assert (inside == 0) == (above == 50)


def test_heun_judges_each_evaluation_by_its_own_time():
    """Four intervals, t = 0, ¼ | ¼, ½ | ½, ¾ | ¾, 1: σ ≤ 1 holds from t = ½ on, for five of the eight."""
    counted = CountedNet(step_net)
    x = flow.sample(
        guided(counted, 3.0, "all", NULL, GuidanceInterval(flow.noise_level, None, 1.0)), ZERO, Y, "heun", 4
    )
    torch.testing.assert_close(x, torch.full_like(x, 1 + 2 * 5 / 8))
    assert counted.evaluations_per_image(N) == 8 + 5


@pytest.mark.parametrize(("above", "up_to"), [(None, 2.0), (0.3, None), (0.3, 2.0)])
def test_an_interval_of_dit_is_in_the_same_units(above, up_to):
    """DDIM against a loop in float64 that takes σ = √((1 − ᾱ)/ᾱ) from the betas themselves."""
    steps, scale, counted = 10, 3.0, CountedNet(lambda x, *a: (torch.cat((step_net(x, *a)[0],) * 2, dim=1), []))
    net = guided(counted, scale, "all", NULL, GuidanceInterval(ddpm.noise_level, above, up_to))
    x = ddpm.sample(net, ZERO, Y, "ddim", steps)
    alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[ddpm.spaced_timesteps(steps)]
    expected, inside = 0.0, 0
    for k in reversed(range(steps)):
        now, before = alphas_cumprod[k], alphas_cumprod[k - 1] if k else 1.0
        is_inside = (above or 0.0) < np.sqrt((1 - now) / now) <= (up_to or np.inf)
        eps = scale if is_inside else 1.0
        expected = np.sqrt(before) * (expected - np.sqrt(1 - now) * eps) / np.sqrt(now) + np.sqrt(1 - before) * eps
        inside += is_inside
    torch.testing.assert_close(x, torch.full_like(x, expected), rtol=1e-9, atol=0)
    assert 0 < inside < steps
    assert counted.evaluations_per_image(N) == steps + inside


@pytest.mark.parametrize("process", [flow, ddpm, imm])
def test_samplers_ask_the_interval_on_the_host_once_an_evaluation(process):
    """By the one time of a tile, and not by every image's, which a GPU would have to be waited for to tell."""
    asked, intervals = [], 5

    def noise_level(t):
        asked.append(t)
        return process.noise_level(t)

    def net(x, times, y, taps=()):
        asked.append(times[0])
        return torch.zeros_like(x).repeat(1, 2 if process is ddpm else 1, 1, 1), []

    guide = guided(net, 3.0, "all", NULL, GuidanceInterval(noise_level, 0.5, 5.0))
    arguments = {flow: ("euler", intervals), ddpm: ("ddim", intervals), imm: (intervals,)}[process]
    process.sample(guide, torch.zeros(N, 4, 1, 1), Y, *arguments)
    assert len(asked) == 2 * intervals
    assert {len(t) for t in asked[1::2]} == {N, 2 * N}
    for mine, given_to_net in zip(asked[::2], asked[1::2], strict=True):
        assert mine.device.type == "cpu"
        assert torch.equal(mine, given_to_net[:1])  # to the last bit: a bound may be met exactly


def test_both_families_mean_the_same_noise():
    """x_t divided by its share of the image is the image with noise of standard deviation σ: a variance of 1 + σ²."""
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 40_000, 1, 1, 1, dtype=torch.float64, generator=g)
    for process, time in ((flow, 0.3), (ddpm, 400)):
        t = torch.full((len(x),), time)
        share = process.interpolate(torch.ones(1, 1, 1, 1, dtype=torch.float64), t[:1], torch.zeros(1, 1, 1, 1))
        variance = (process.interpolate(x, t, noise) / share).var().item()
        assert variance == pytest.approx(1 + process.noise_level(t)[0].item() ** 2, rel=0.03)
