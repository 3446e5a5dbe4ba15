"""SiT (Ma et al. 2024): flow matching on the linear path x_t = t x₁ + (1 − t) x₀, t = 0 noise, t = 1 data.

The network predicts the velocity v = x₁ − x₀; of a head with learned sigma the first C channels are taken.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.method.processes.process import Denoiser, StepNoise, Tapped, Taps, column, network_at

Velocity = Callable[[Tensor, float], Tensor]
LAST_STEP = 0.04  # of the SDE


def draw_times(n: int, generator: torch.Generator) -> Tensor:
    """t uniform on [0, 1), (N,)."""
    return torch.rand(n, generator=generator)


def nearby_times(t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
    """t⁺ = t + gap · u, clamped to [0, 1], u uniform on [−1, 1): (N,) → (N,); or (N, K), all K moved alike."""
    shift = gap * (2 * torch.rand(len(t), generator=generator) - 1)
    return (t + shift.view(-1, *[1] * (t.dim() - 1))).clamp(0, 1)


def noise_level(t: Tensor) -> Tensor:
    """σ = (1 − t)/t, the noise per unit of the image in x_t, float64: (N,) → (N,)."""
    return (1 - t.double()) / t.double()


def times_at(share: float) -> Tensor:
    """t = 1 − u, (1,)."""
    return torch.tensor([1 - share])


def interpolate(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = t x + (1 − t) noise: (N, C, H, W), (N,), (N, C, H, W) → (N, C, H, W)."""
    t = column(t)
    return t * x + (1 - t) * noise


def loss(net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
    """‖v(x_t, t, y) − (x − noise)‖² averaged over C H W: per sample (N,), and the tapped block outputs."""
    out, h = net(interpolate(x, t, noise), (t,), y, taps)
    v = out[:, : x.shape[1]]
    return (v - (x - noise)).square().flatten(1).mean(1), h


@torch.no_grad()
def sample(
    net: Denoiser, noise: Tensor, y: Tensor, method: str, intervals: int, step_noise: StepNoise | None = None
) -> Tensor:
    """Integrate from noise (N, C, H, W) at t = 0 to samples at t = 1, over equal intervals.

    method: "euler" and "heun" (trapezoid, twice the evaluations) solve the ODE, and "euler-maruyama" the SDE, with one
    evaluation more than intervals. SiT's "n steps" are n grid points, that is n − 1 intervals. step_noise(k): the noise
    of interval k of the SDE, shaped as `noise`, for instance drawn image by image.
    """
    assert intervals >= 1, intervals
    assert method in ("euler", "heun", "euler-maruyama"), method

    def velocity(x: Tensor, t: float) -> Tensor:
        out, _ = network_at(net, x.new_full((1,), t, device="cpu"))(x, (x.new_full((len(x),), t),), y, ())
        return out[:, : x.shape[1]].to(x.dtype)

    if method == "euler-maruyama":
        assert step_noise is not None, "the SDE needs step_noise"
        return euler_maruyama(velocity, noise, intervals, step_noise)
    x = noise
    for k in range(intervals):
        t, t_next = k / intervals, (k + 1) / intervals
        dt, v = t_next - t, velocity(x, t)
        x = x + dt * v if method == "euler" else x + dt / 2 * (v + velocity(x + dt * v, t_next))
    return x


def euler_maruyama(
    velocity: Velocity, x: Tensor, intervals: int, step_noise: StepNoise, last_step: float = LAST_STEP
) -> Tensor:
    """dx = (v + w s) dt + √(2w) dW with SiT's diffusion w = σ_t = 1 − t, s the score, on [0, 1 − last_step]; then one
    step of that size without noise (SiT's last step "Mean").
    """
    dt = (1 - last_step) / intervals
    for k in range(intervals):
        t = k * dt
        diffusion = (2 * (1 - t) * dt) ** 0.5
        x = x + dt * _drift(velocity, x, t) + diffusion * step_noise(k)
    return x + last_step * _drift(velocity, x, 1 - last_step)


def _drift(velocity: Velocity, x: Tensor, t: float) -> Tensor:
    """v + w s. On the linear path the score is s = (t v − x)/(1 − t), so that w s = t v − x for w = 1 − t."""
    v = velocity(x, t)
    return v + (t * v - x)
