"""DiT's process against the public code's values, and against closed forms: bins, posteriors, a Gaussian's law."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.backbones import NULL, build, with_weights
from support.places import GOLDEN as GOLDEN_FOLDER

from harness.method.guidance import CountedNet, guided
from harness.method.processes import ddpm

GOLDEN = load_file(GOLDEN_FOLDER / "dit_given.safetensors")
X, Y, T, NOISE = (GOLDEN[f"ddpm.{name}"] for name in ("x_start", "y", "t", "noise"))
Z = GOLDEN["ddpm10.z"]


def given():
    return with_weights(build(learn_sigma=True), GOLDEN, "dit.weights/")


@torch.no_grad()
def test_network_of_the_public_code_plain_and_guided():
    """Guidance touches three channels: the fourth and the variance half are the conditional ones."""
    x, t, y = (GOLDEN[f"dit.{name}"] for name in "xty")
    torch.testing.assert_close(given()(x, (t,), y)[0], GOLDEN["dit.out"], rtol=1e-5, atol=1e-5)
    x, t, y = (GOLDEN[f"dit.cfg_{name}"][:3] for name in "xty")
    out, _ = guided(given(), 1.7, "three", NULL)(x, (t,), y)
    torch.testing.assert_close(out, GOLDEN["dit.cfg3_out_scale1.7"][:3], rtol=1e-5, atol=1e-5)


def test_constants_of_the_public_code():
    names = {name: name for name in ("betas", "alphas_cumprod")}
    names["posterior_log_variance"] = "posterior_log_variance_clipped"
    for ours, theirs in names.items():
        torch.testing.assert_close(getattr(ddpm.FULL, ours), GOLDEN[f"ddpm.{theirs}"], rtol=1e-12, atol=0)


def transitions(times):
    """ᾱ, α and Var[x_{k−1} | x_k, x] of a chain that visits `times`, one step after another: a float64 NumPy loop."""
    every_beta, total, before, rows = np.linspace(1e-4, 0.02, 1000), 1.0, 1.0, []
    for time in range(1000):
        total *= 1 - every_beta[time]
        if time in times:
            alpha = total / before
            # Two Gaussian facts about x_{k−1}: x_k says α/(1 − α), x says 1/(1 − ᾱ_{k−1}); precisions add up.
            variance = 0.0 if before == 1 else 1 / (alpha / (1 - alpha) + 1 / (1 - before))
            rows.append((total, alpha, variance))
            before = total
    return np.array(rows).T


@pytest.mark.parametrize("steps", [10, 250, 1000])
def test_respaced_tables_are_those_of_the_chain_over_the_kept_times(steps):
    table = ddpm.schedule(steps)
    alphas_cumprod, alphas, variance = transitions(ddpm.spaced_timesteps(steps))
    np.testing.assert_allclose(table.alphas_cumprod, alphas_cumprod, rtol=1e-12)
    np.testing.assert_allclose(table.betas, 1 - alphas, rtol=1e-10)
    np.testing.assert_allclose(table.posterior_log_variance.exp(), [variance[1], *variance[1:]], rtol=1e-10)


def test_times_kept_when_respaced():
    assert ddpm.spaced_timesteps(10) == GOLDEN["ddpm10.timestep_map"].tolist()
    assert ddpm.spaced_timesteps(1000) == list(range(1000))
    assert ddpm.spaced_timesteps(21)[10] == 499  # half-way: ten times 49.95 added up is just below 499.5
    for impossible in (1, 1001):
        with pytest.raises(AssertionError, match="steps"):
            ddpm.spaced_timesteps(impossible)


def test_noisy_images_and_both_terms_of_the_loss_of_the_public_code():
    x_t, net = ddpm.interpolate(X, T, NOISE), given()
    torch.testing.assert_close(x_t, GOLDEN["ddpm.x_t"], rtol=1e-6, atol=1e-6)
    out, _ = net(x_t, (T,), Y)
    simple, bound = ddpm.loss_terms(out, X, T, NOISE)
    losses, (h,) = ddpm.loss(net, X, Y, T, NOISE, taps=(2,))
    torch.testing.assert_close(simple, GOLDEN["ddpm.mse_per_sample"], rtol=1e-5, atol=0)
    torch.testing.assert_close(bound, GOLDEN["ddpm.vb_per_sample"], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses, GOLDEN["ddpm.loss_per_sample"], rtol=1e-5, atol=0)
    torch.testing.assert_close(h, net(x_t, (T,), Y, (2,))[1][0])


def test_bound_teaches_the_variance_and_nothing_else():
    out = torch.randn(6, 8, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ddpm.loss_terms(out, X, T, NOISE)[1].sum().backward()
    assert not out.grad[:, :4].any()
    assert out.grad[:, 4:].isfinite().all()
    assert out.grad[:, 4:].flatten(1).any(dim=1).all()  # at every time, the first one too


def test_bound_is_zero_for_the_posterior_itself():
    t = torch.arange(1, 1000, 37)
    noise = torch.randn(len(t), 1, 2, 2, dtype=torch.float64)
    posterior = torch.cat((noise, torch.full_like(noise, -1)), dim=1)
    simple, bound = ddpm.loss_terms(posterior, torch.zeros_like(noise), t, noise)
    assert not simple.any()
    assert not bound.any()


def test_first_step_is_a_law_over_the_256_levels():
    """At t = 0 the bound is −log₂ p of the 8-bit level; for one predicted image these p add up to 1."""
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64).view(256, 1, 1, 1)
    first, centre = torch.zeros(256, dtype=torch.long), 0.99  # near the edge, where the last bin is open
    x_t = torch.full_like(levels, 0.9)
    alpha = ddpm.FULL.alphas_cumprod[0]
    noise = (x_t - alpha.sqrt() * levels) / (1 - alpha).sqrt()
    eps = (x_t - alpha.sqrt() * centre) / (1 - alpha).sqrt()
    _, bound = ddpm.loss_terms(torch.cat((eps, torch.ones_like(eps)), dim=1), levels, first, noise)
    assert (2**-bound).sum().item() == pytest.approx(1, abs=1e-9)
    assert (2**-bound * levels.flatten()).sum().item() == pytest.approx(centre, abs=3e-3)  # σ = 0.01, a bin 0.008


@pytest.mark.parametrize(
    ("name", "noises", "scale"), [("sample", "noises", 1), ("cfg3ch_1.5_sample", "cfg_noises", 1.5)]
)
def test_ancestral_samples_of_the_public_code_and_their_evaluations(name, noises, scale):
    """Their tenth noise is multiplied by zero; we do not ask for it. Samples reach 700, hence the relative part."""
    counted, steps_drawn = CountedNet(given()), []

    def step_noise(k):
        steps_drawn.append(k)
        return GOLDEN[f"ddpm10.{noises}"][k]

    x = ddpm.sample(guided(counted, scale, "three", NULL), Z, GOLDEN["ddpm10.y"], "ancestral", 10, step_noise)
    torch.testing.assert_close(x, GOLDEN[f"ddpm10.{name}"], rtol=1e-5, atol=1e-4)
    assert steps_drawn == list(range(9))
    assert not x.requires_grad
    assert counted.evaluations_per_image(len(Z)) == (10 if scale == 1 else 20)


def test_ddim_samples_of_the_public_code():
    counted = CountedNet(given())
    x = ddpm.sample(counted, Z, GOLDEN["ddpm10.y"], "ddim", 10)
    torch.testing.assert_close(x, GOLDEN["ddpm10.ddim_sample"], rtol=1e-5, atol=1e-4)
    assert counted.evaluations_per_image(len(Z)) == 10


MEAN, DEVIATION = 0.7, 0.4


def gaussian_net(steps):
    """E[ε | x_t] for data N(MEAN, DEVIATION²), and v for Var[x_{k−1} | x_k] over `steps` of the times."""
    times = ddpm.spaced_timesteps(steps)
    alphas_cumprod, alphas, posterior = (torch.from_numpy(row) for row in transitions(times))
    total = alphas_cumprod * DEVIATION**2 + 1 - alphas_cumprod  # Var[x_k]
    before = (total - (1 - alphas)) / alphas  # Var[x_{k−1}]
    smallest, largest = posterior.clamp(min=posterior[1]).log(), (1 - alphas).log()
    v = 2 * ((before * (1 - alphas) / total).log() - smallest) / (largest - smallest) - 1

    def net(x, t, y, taps=()):
        k = times.index(int(t[0][0]))
        eps = (1 - alphas_cumprod[k]).sqrt() / total[k] * (x - alphas_cumprod[k].sqrt() * MEAN)
        return torch.cat((eps, v[k].expand_as(x)), dim=1), []

    return net


def law(method, steps):
    """(mean, variance) of the samples, exactly: all is affine, so each noise's share is what a unit of it changes."""
    units = torch.eye(steps, dtype=torch.float64)
    impulses = torch.cat((torch.zeros(1, steps, dtype=torch.float64), units)).view(-1, steps, 1, 1, 1)
    total = ddpm.FULL.alphas_cumprod[-1]
    start = total.sqrt() * MEAN + (total * DEVIATION**2 + 1 - total).sqrt() * impulses[:, -1]
    y = torch.zeros(len(start), dtype=torch.long)
    x = ddpm.sample(gaussian_net(steps), start, y, method, steps, lambda k: impulses[:, k]).flatten()
    return x[0].item(), (x[1:] - x[0]).square().sum().item()


# Both methods end with E[x | x_0] and add no noise: the variance of the data, less what the first step's noise hides.
ALPHA = 1 - 1e-4
ENDING = ALPHA * DEVIATION**4 / (ALPHA * DEVIATION**2 + 1 - ALPHA)


@pytest.mark.parametrize("steps", [2, 10, 250])
def test_ancestral_sampling_keeps_the_law_of_a_gaussian_at_any_number_of_steps(steps):
    """With the exact mean and variance every step is exact, so nothing but float64's rounding is left."""
    mean, variance = law("ancestral", steps)
    assert mean == pytest.approx(MEAN, abs=1e-10)
    assert variance == pytest.approx(ENDING, rel=1e-9)
    assert pytest.approx(DEVIATION**2, rel=1e-3) == ENDING


def test_ddim_reaches_the_law_of_a_gaussian_at_first_order():
    """An Euler step of the probability-flow ODE: the mean is exact, the deviation's error halves with the step."""
    laws = [law("ddim", steps) for steps in (125, 250, 500)]
    errors = [abs(variance**0.5 - ENDING**0.5) for _, variance in laws]
    assert all(mean == pytest.approx(MEAN, abs=1e-10) for mean, _ in laws)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.02)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.02)
    assert errors[2] < 0.003


def test_times_are_uniform_integers():
    t = ddpm.draw_times(200_000, torch.Generator().manual_seed(0))
    assert t.dtype == torch.int64
    counts = t.bincount(minlength=1000)
    assert len(counts) == 1000
    assert ((counts - 200).square() / 200).sum().item() == pytest.approx(999, abs=4 * (2 * 999) ** 0.5)  # χ², 4 σ


def test_a_head_without_variance_and_unknown_methods_are_refused():
    with pytest.raises(AssertionError, match="learns its variance"):
        ddpm.sample(build(), Z, GOLDEN["ddpm10.y"], "ddim", 2)
    with pytest.raises(AssertionError, match="heun"):
        ddpm.sample(given(), Z, GOLDEN["ddpm10.y"], "heun", 2)
    with pytest.raises(AssertionError, match="step_noise"):
        ddpm.sample(given(), Z, GOLDEN["ddpm10.y"], "ancestral", 2)
