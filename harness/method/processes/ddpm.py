"""DiT's process (Peebles & Xie 2023): DDPM (Ho et al. 2020) with the learned variance of Nichol & Dhariwal (2021).

Time t is an integer from 0, almost data, to 999, almost noise. Of the network's 2C channels the first C are ε, the
others v: where a reverse step's log-variance lies between log β̃ (v = −1) and log β (v = 1).
"""

import math
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from harness.method.processes.process import Denoiser, StepNoise, Tapped, Taps, column, network_at

STEPS = 1000


class Schedule(NamedTuple):
    """One number per step k, float64 (n,), all of them functions of ᾱ."""

    alphas_cumprod: Tensor  # ᾱ_k = Π (1 − β)
    alphas_cumprod_prev: Tensor  # ᾱ_{k−1}, 1 before the first step
    betas: Tensor  # β_k = 1 − ᾱ_k / ᾱ_{k−1}
    # log β̃_k, β̃_k = β_k (1 − ᾱ_{k−1}) / (1 − ᾱ_k) the variance of q(x_{k−1} | x_k, x); of the first step, whose β̃ is 0,
    # it is log β̃_1
    posterior_log_variance: Tensor


def spaced_timesteps(steps: int) -> list[int]:
    """As many of the times 0 … 999, evenly from the first to the last: those of the public `space_timesteps`."""
    assert 2 <= steps <= STEPS, f"{steps} steps of a process of {STEPS}"
    stride = (STEPS - 1) / (steps - 1)
    # Added up, not multiplied: where a time falls half-way, that decides to which side the public code rounds it.
    return [round(time) for time in accumulate([0.0] + [stride] * (steps - 1))]


def schedule(steps: int = STEPS) -> Schedule:
    """Linear betas from 1e-4 to 0.02, respaced to the kept times (Nichol & Dhariwal, eq. 19)."""
    betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    alphas_cumprod = (1 - betas).cumprod(0)[spaced_timesteps(steps)]
    alphas_cumprod_prev = torch.cat((alphas_cumprod.new_ones(1), alphas_cumprod[:-1]))
    betas = 1 - alphas_cumprod / alphas_cumprod_prev
    variance = betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)
    log_variance = torch.cat((variance[1:2], variance[1:])).log()
    return Schedule(alphas_cumprod, alphas_cumprod_prev, betas, log_variance)


FULL = schedule()


@cache
def _table(steps: int, device: torch.device) -> Tensor:
    """`schedule` on a device, (4, steps): brought there once, because the copy is waited for."""
    with torch.inference_mode(False):
        return torch.stack(schedule(steps)).to(device)


def schedule_at(k: Tensor, steps: int = STEPS) -> Schedule:
    """The numbers of steps k (N,) of so many, still float64 (N,), on the device of k."""
    return Schedule(*_table(steps, k.device)[:, k])


def draw_times(n: int, generator: torch.Generator) -> Tensor:
    """t uniform on 0 … 999, int64 (N,)."""
    return torch.randint(STEPS, (n,), generator=generator)


def nearby_times(t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
    """t⁺ = t + the whole number nearest to 1000 gap · u, clamped to 0 … 999, u uniform on [−1, 1): (N,) → (N,)."""
    shift = STEPS * gap * (2 * torch.rand(len(t), generator=generator) - 1)
    return (t + shift.round().long()).clamp(0, STEPS - 1)


def noise_level(t: Tensor) -> Tensor:
    """σ = √((1 − ᾱ_t)/ᾱ_t), the noise per unit of the image in x_t, float64: int64 (N,) → (N,)."""
    alphas_cumprod = schedule_at(t).alphas_cumprod
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def times_at(share: float) -> Tensor:
    """The t whose σ is nearest to u/(1 − u), by their logarithms: int64 (1,)."""
    levels = noise_level(torch.arange(STEPS))
    return (levels.log() - math.log(share / (1 - share))).abs().argmin()[None]


def interpolate(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = √ᾱ_t x + √(1 − ᾱ_t) noise (Ho et al., eq. 4): (N, C, H, W), int64 (N,), (N, C, H, W) → (N, C, H, W)."""
    alphas_cumprod = schedule_at(t).alphas_cumprod
    return column(alphas_cumprod.sqrt(), x.dtype) * x + column((1 - alphas_cumprod).sqrt(), x.dtype) * noise


def loss(net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
    """L_simple + L_vb (Nichol & Dhariwal, eq. 16, with DiT's λ = 1): per sample (N,), and the tapped block outputs."""
    out, h = net(interpolate(x, t, noise), (t,), y, taps)
    simple, bound = loss_terms(out, x, t, noise)
    return simple + bound, h


def loss_terms(out: Tensor, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """‖ε − noise‖² and the variational bound, averaged over C H W: two (N,), for the network's output (N, 2C, H, W).

    The bound is this step's term only, in bits. It teaches the variance: ε is detached in it.
    """
    eps, v = _split(out, x)
    s = schedule_at(t)
    error = eps - noise
    # The posterior's mean and the model's are eq. 11 of Ho et al. with the true noise and with ε: x_t drops out.
    scale = s.betas / ((1 - s.betas) * (1 - s.alphas_cumprod)).sqrt()
    difference = column(scale, x.dtype) * error.detach()
    log_variance = _log_variance(v, s)
    kl = _kl(difference, column(s.posterior_log_variance, x.dtype), log_variance).flatten(1).mean(1)
    decoder = _decoder_nll(x, difference, log_variance).flatten(1).mean(1)
    return error.square().flatten(1).mean(1), torch.where(t == 0, decoder, kl) / math.log(2)


def _kl(difference: Tensor, log_variance: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(m, σ²) ‖ N(m − difference, other σ²)) in nats, element by element."""
    ratio = log_variance - other_log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + difference.square() * (-other_log_variance).exp())


def _decoder_nll(x: Tensor, difference: Tensor, log_variance: Tensor) -> Tensor:
    """−log p(x | x_0) in nats: a Gaussian around x − difference, over bins of 2/255, open at ±1 (Ho et al., eq. 13).

    DiT uses it on latents too, where the bins have no meaning of their own.
    """
    precision = (-0.5 * log_variance).exp()
    upper = _normal_cdf(precision * (difference + 1 / 255))
    lower = _normal_cdf(precision * (difference - 1 / 255))
    probability = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return -probability.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """Φ(x) by the tanh formula that the public code takes (it is off by up to 3e-4)."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@torch.no_grad()
def sample(
    net: Denoiser, noise: Tensor, y: Tensor, method: str, steps: int, step_noise: StepNoise | None = None
) -> Tensor:
    """Walk from noise (N, C, H, W) at t = 999 to samples, over `steps` of the times: as many evaluations.

    method: "ancestral" draws each step from the learned Gaussian, the last one without noise; "ddim" is deterministic
    (η = 0). Both keep the same times, those of `spaced_timesteps`. Predictions are not clipped to [−1, 1], as in DiT's
    own sampling. step_noise(i): the noise of the i-th step taken, i = 0 … steps − 2, shaped as `noise`.
    """
    assert method in ("ancestral", "ddim"), method
    assert method == "ddim" or step_noise is not None, "ancestral sampling needs step_noise"
    times, x = spaced_timesteps(steps), noise
    for k in reversed(range(steps)):
        net_now = network_at(net, torch.tensor([times[k]]))
        out, _ = net_now(x, (torch.full((len(x),), times[k], device=x.device),), y, ())
        eps, v = _split(out, x)
        s = schedule_at(torch.full((1,), k, device=x.device), steps)
        if method == "ddim":
            x = _ddim_step(x, eps, s)
        else:
            x = _reverse_mean(x, eps, s)
            if step_noise is not None and k > 0:
                x = x + (0.5 * _log_variance(v, s)).exp() * step_noise(steps - 1 - k)
    return x


def _reverse_mean(x: Tensor, eps: Tensor, s: Schedule) -> Tensor:
    """(x − β/√(1 − ᾱ) ε)/√(1 − β) (Ho et al., eq. 11)."""
    scale = s.betas / (1 - s.alphas_cumprod).sqrt()
    return (x - column(scale, x.dtype) * eps) / column((1 - s.betas).sqrt(), x.dtype)


def _ddim_step(x: Tensor, eps: Tensor, s: Schedule) -> Tensor:
    """√ᾱ_{k−1} x̂ + √(1 − ᾱ_{k−1}) ε (Song et al. 2021, eq. 12 with σ = 0), x̂ the image that ε says x came from."""
    image = (x - column((1 - s.alphas_cumprod).sqrt(), x.dtype) * eps) / column(s.alphas_cumprod.sqrt(), x.dtype)
    before = s.alphas_cumprod_prev
    return column(before.sqrt(), x.dtype) * image + column((1 - before).sqrt(), x.dtype) * eps


def _log_variance(v: Tensor, s: Schedule) -> Tensor:
    """Between log β̃ at v = −1 and log β at v = 1 (Nichol & Dhariwal, eq. 15, there with v in [0, 1])."""
    smallest, largest = column(s.posterior_log_variance, v.dtype), column(s.betas.log(), v.dtype)
    return smallest + (v + 1) / 2 * (largest - smallest)


def _split(out: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The head's (N, 2C, H, W) as ε and v, (N, C, H, W) each, in the precision of x."""
    assert out.shape[1] == 2 * x.shape[1], f"{out.shape[1]} output channels for {x.shape[1]}: DDPM learns its variance"
    eps, v = out.to(x.dtype).chunk(2, dim=1)
    return eps, v
