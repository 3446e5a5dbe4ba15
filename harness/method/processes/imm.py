"""Inductive moment matching (Zhou, Ermon & Song 2025): jumps from t to s, learnt by matching distributions.

t = 0 is data and t = 1 noise, x_t = (1 − t) x + t noise. A jump is f_{s,t}(x_t) = x_t − (t − s) F(x_t, t, t − s), the
paper's Euler-FM. The jumps to s from t and from a slightly smaller r are to have the same law; how far they are from it
is the maximum mean discrepancy between groups of samples that share their times. Constants without another source are
those of the official ImageNet-256 configuration (imagenet256_ts_a2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.method.processes.process import Denoiser, Tapped, Taps, column, network_at

PARTICLES = 4  # M, the samples of a group
END = 0.994  # T: times reach from 0 to here, and sampling starts here
A, B = 2, 4  # of the weight (eq. 13)
SMALLEST_GAP = 1e-4  # of t − r
TIME_SCALE = 1000.0  # the network embeds 1000 t and 1000 (t − s)
SMALLEST_SQUARE = 1e-8  # squared distances below it count as it: a root has no finite slope at 0


def noise_level(t: Tensor) -> Tensor:
    """σ = t/(1 − t), the noise per unit of the image in x_t, float64: (N,) → (N,)."""
    return t.double() / (1 - t.double())


@dataclass(frozen=True)
class InductiveMomentMatching:
    """The process; its times are (N, 2): t and t − s.

    k: from t to r, η = t/(1 − t) falls by a 2ᵏ-th of its range.
    """

    k: int = 12
    time_scale = TIME_SCALE
    noise_level = staticmethod(noise_level)

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """(t, t − s), (N, 2), each pair for four samples in a row: t uniform on (0, T], s uniform on [0, t)."""
        t, share = 1 - torch.rand(2, -(-n // PARTICLES), generator=generator)
        return torch.stack((END * t, END * t * share), dim=1).repeat_interleave(PARTICLES, dim=0)[:n]

    def nearby_times(self, t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
        """t moved by gap · u, u uniform on [−1, 1), as far as s and T; s stands still: (N, 2) → (N, 2)."""
        now, span = t.unbind(1)
        moved = now + gap * (2 * torch.rand(len(t), generator=generator) - 1)
        moved = moved.clamp(max=END).maximum(now - span)
        return torch.stack((moved, moved - (now - span)), dim=1)

    def times_at(self, share: float) -> Tensor:
        """t = u and s = 0, (1, 2): the jump to the image."""
        return torch.tensor([[share, share]]).clamp(max=END)

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t at unit variance, what the network is given: (N, C, H, W), (N, 2), (N, C, H, W) → (N, C, H, W)."""
        return _noisy(x, t[:, 0], noise) * _scale(t[:, 0])

    def loss(self, net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
        """w(s, t) · MMD² of the jumps from t and those from r (eq. 12): per sample (N,), and the tapped block outputs.

        The jumps from r are a constant, made by the same network from the same noise. N must be a multiple of four.
        """
        now, span = t.unbind(1)
        s = now - span
        r = self.earlier(now, s)
        from_t, h = jump(net, _noisy(x, now, noise), now, span, y, taps)
        with torch.no_grad():
            from_r, _ = jump(net, _noisy(x, r, noise), r, r - s, y)
        return weight(now) * discrepancy(from_t, from_r, span), h

    def earlier(self, t: Tensor, s: Tensor) -> Tensor:
        """r(s, t) (appendix C.6): where η is smaller by a constant, and at least 1e-4 below t; but never below s."""
        decrement = END / (1 - END) / 2**self.k
        eta = (t / (1 - t) - decrement).clamp(min=0)
        return torch.maximum(torch.minimum(eta / (1 + eta), t - SMALLEST_GAP), s)


def jump(net: Denoiser, x_t: Tensor, t: Tensor, span: Tensor, y: Tensor, taps: Taps = ()) -> Tapped:
    """f_{s,t}(x_t) = x_t − (t − s) F, and the tapped block outputs; t and span = t − s are (N,)."""
    out, h = net(x_t * _scale(t), (t, span), y, taps)
    return x_t - column(span) * out.to(x_t.dtype), h


def weight(t: Tensor) -> Tensor:
    """w(s, t) = ½ σ(b − λ) (−dλ/dt) αᵃ/(α² + σ²), λ = 2 log((1 − t)/t) the log-SNR (eq. 13); s is not in it: (N,)."""
    log_snr = 2 * ((1 - t) / t).log()
    return torch.sigmoid(B - log_snr) / (t * (1 - t)) * (1 - t) ** A / ((1 - t) ** 2 + t**2)


def discrepancy(from_t: Tensor, from_r: Tensor, span: Tensor) -> Tensor:
    """MMD² of each group under the Laplace kernel exp(−‖a − b‖ / (D (t − s))) (eq. 67), shared out to its samples.

    → (N,): for each sample the means of its rows of the kernel matrices, diagonals included; their mean is the MMD².
    """
    a, b = from_t.unflatten(0, (-1, PARTICLES)).flatten(2), from_r.unflatten(0, (-1, PARTICLES)).flatten(2)  # (G, M, D)
    scale = span.view(-1, PARTICLES, 1) * a.shape[2]

    def kernel(p: Tensor, q: Tensor) -> Tensor:
        squared = (p[:, :, None] - q[:, None]).square().sum(3)  # (G, M, M)
        return torch.exp(-squared.clamp(min=SMALLEST_SQUARE).sqrt() / scale)

    return (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).mean(2).flatten()


@torch.no_grad()
def sample(net: Denoiser, noise: Tensor, y: Tensor, intervals: int) -> Tensor:
    """Pushforward sampling (algorithm 2): jump from noise (N, C, H, W), taken as x_T, to 0 in equal spans of time."""
    assert intervals >= 1, intervals
    x, span = noise, noise.new_full((len(noise),), END / intervals)
    shared = noise.new_full((1,), END / intervals, device="cpu")
    for k in range(intervals, 0, -1):
        x, _ = jump(network_at(net, k * shared), x, k * span, span, y)
    return x


def _noisy(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return (1 - column(t)) * x + column(t) * noise


def _scale(t: Tensor) -> Tensor:
    """c_in = 1/√(α² + σ²), (N, 1, 1, 1); data count as of unit variance, as in the paper they are made to be."""
    return column(((1 - t) ** 2 + t**2).rsqrt())
