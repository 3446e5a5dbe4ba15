"""iCT, improved consistency training (Song & Dhariwal 2023): a network that maps every noise level straight to data.

x_σ = x + σ noise, for σ from 0.002 to 80. f(x_σ, σ) = c_skip x_σ + c_out F(c_in x_σ, σ) is x_σ itself at the smallest
σ, and is learnt to be the same at two neighbouring levels, which come ever closer as training goes on.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.method.processes.process import Denoiser, Tapped, Taps, column

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # the levels of EDM (Karras et al. 2022), as in consistency models
SIGMA_DATA = 0.5  # EDM's, for images in [−1, 1]
FIRST = 10  # s₀: intervals between levels at the start (table 1)
LOG_MEAN, LOG_DEVIATION = -1.1, 2.0  # of log σ (table 1)
HUBER = 0.00054  # c of the pseudo-Huber distance over √D (section 3.3)
TIME_SCALE = 250.0  # the network embeds 1000 · ¼ log σ (EDM's ¼ log σ, by 1000 in the consistency models' code)


@dataclass(frozen=True)
class ConsistencyTraining:
    """The process; its times are (N, 2): log σ of a level, which the network is given, and of the level below it.

    steps: K, the training steps over which the curriculum runs. finest: s₁, the intervals between levels that it ends
    with. intervals: those of a training step, set by `at_step`.
    """

    steps: int
    finest: int = 1280
    intervals: int = FIRST
    time_scale = TIME_SCALE

    def at_step(self, step: int) -> "ConsistencyTraining":
        """The process at a training step: N(k) − 1 = min(s₀ 2^⌊k/K'⌋, s₁) intervals (table 1)."""
        doublings = (self.finest // FIRST).bit_length() - 1
        each = self.steps // (doublings + 1)  # K'
        return replace(self, intervals=min(FIRST * 2 ** min(step // each, doublings + 1), self.finest))

    def levels(self) -> Tensor:
        """σ_1 < … < σ_N, float64 (N(k),) (Karras et al., eq. 5)."""
        low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
        return torch.linspace(low, high, self.intervals + 1, dtype=torch.float64) ** RHO

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """(log σ_{i+1}, log σ_i), (N, 2): each interval as likely as a lognormal σ falls into it (section 3.5)."""
        log_sigma = self.levels().log()
        below = torch.special.erf((log_sigma - LOG_MEAN) / (2**0.5 * LOG_DEVIATION))
        i = torch.multinomial(below.diff(), n, replacement=True, generator=generator)
        return torch.stack((log_sigma[i + 1], log_sigma[i]), dim=1).float()

    def nearby_times(self, t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
        """log σ moved by gap · u, u uniform on [−1, 1), in shares of its range: (N, 2) → (N, 2), both moved alike."""
        low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
        shift = gap * (high - low) * (2 * torch.rand(len(t), 1, generator=generator) - 1)
        return (t + shift).clamp(low, high)

    def times_at(self, share: float) -> Tensor:
        """log σ twice, (1, 2): the network is given the first."""
        log_sigma = math.log(min(max(share / (1 - share), SIGMA_MIN), SIGMA_MAX))
        return torch.tensor([[log_sigma, log_sigma]])

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """c_in x_σ, what the network is given: (N, C, H, W), (N, 2), (N, C, H, W) → (N, C, H, W)."""
        sigma = column(t[:, 0].exp())
        return (x + sigma * noise) / (sigma**2 + SIGMA_DATA**2).sqrt()

    def loss(self, net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
        """d(f(x_σ, σ), f(x_σ', σ')) / (σ − σ') for neighbours σ > σ' (section 3): (N,), and the tapped block outputs.

        d is the pseudo-Huber distance. The second f is a constant, by the same network from the same noise.
        """
        log_sigma, log_below = t.unbind(1)
        sigma, below = log_sigma.exp(), log_below.exp()
        f, h = denoise(net, x + column(sigma) * noise, log_sigma, y, taps)
        with torch.no_grad():
            target, _ = denoise(net, x + column(below) * noise, log_below, y)
        c = HUBER * x[0].numel() ** 0.5
        distance = ((f - target).square().flatten(1).sum(1) + c**2).sqrt() - c
        return distance / (sigma - below), h


def denoise(net: Denoiser, x_sigma: Tensor, log_sigma: Tensor, y: Tensor, taps: Taps = ()) -> Tapped:
    """f(x_σ, σ) for log σ (N,), and the tapped block outputs (Song et al. 2023, appendix C)."""
    sigma = column(log_sigma.exp())
    spread = (sigma**2 + SIGMA_DATA**2).sqrt()
    c_skip = SIGMA_DATA**2 / ((sigma - SIGMA_MIN) ** 2 + SIGMA_DATA**2)
    c_out = SIGMA_DATA * (sigma - SIGMA_MIN) / spread
    out, h = net(x_sigma / spread, (log_sigma,), y, taps)
    return c_skip * x_sigma + c_out * out.to(x_sigma.dtype), h


@torch.no_grad()
def sample(net: Denoiser, noise: Tensor, y: Tensor) -> Tensor:
    """f(80 · noise, 80): samples (N, C, H, W) by one evaluation."""
    x_sigma = SIGMA_MAX * noise
    return denoise(net, x_sigma, x_sigma.new_full((len(noise),), SIGMA_MAX).log(), y)[0]
