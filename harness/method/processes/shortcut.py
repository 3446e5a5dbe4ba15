"""Shortcut models (Frans et al. 2024): a network that is told how far to step, from noise to data in 1 to 128 steps.

t = 0 is noise and t = 1 data, x_t = (1 − t) noise + t x. A step of size d goes to x_t + d s(x_t, t, d). The smallest
one follows the flow's velocity; each larger one is learnt as two of half its size, by the averaged network (eq. 5).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.method.processes import flow, meanflow
from harness.method.processes.process import Denoiser, Tapped, Taps, column

LEVELS = 7  # the smallest step is 2⁻⁷: 128 denoising steps in all (the paper's hyperparameters)
LIMIT = 4.0  # the official code clips the middle point and the target to it (targets_shortcut.py); not in the paper


@dataclass(frozen=True)
class Shortcut:
    """The process; its times are (N, 2): t and k, for a step of size d = 2⁻ᵏ.

    The network embeds k and not d, as the official code does; k = 7 is the flow itself (the paper's d = 0). guidance:
    classifier-free guidance inside the targets made of two smallest steps; larger steps learn it from them. every: one
    sample in so many learns from two half steps, the others from data: 4 in the paper (section 3.2), 8 by default in
    the official code (bootstrap_every). average: the network that makes the targets, by `with_average`. positions: of
    the samples that learn from two half steps and, among these, of those whose halves are smallest, by `with_split`.
    """

    null_label: int
    guidance: float = 1.0
    every: int = 4
    average: Denoiser | None = None
    positions: tuple[Tensor, ...] = ()

    def with_average(self, average: Denoiser) -> "Shortcut":
        """The same process, its targets made by this network: the moving average of the one that learns."""
        return replace(self, average=average)

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """(t, k), (N, 2): k uniform on 0 … 6 for one in `every`, else 7; t a multiple of d, uniform on [0, 1).

        The official code has the samples of two half steps at the front of the batch, as many of each size, and more of
        k = 0 where they do not come out even: of 256 / 8 there are 8 of k = 0 and 4 of each other. Here their sizes are
        drawn, and they are the last of each `every`, so that every rank, micro-batch and group of the regulariser that
        is a multiple of it has its share.
        """
        k = torch.randint(LEVELS, (n,), generator=generator)
        steps = 2.0 ** torch.where(torch.arange(n) % self.every == self.every - 1, k, LEVELS)
        t = (torch.rand(n, generator=generator) * steps).floor() / steps
        return torch.stack((t, steps.log2()), dim=1)

    def nearby_times(self, t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
        """t moved by gap · u, u uniform on [−1, 1), as far as the step stays in [0, 1]; k is kept: (N, 2) → (N, 2)."""
        now, k = t.unbind(1)
        moved = now + gap * (2 * torch.rand(len(t), generator=generator) - 1)
        return torch.stack((moved.clamp(min=0).minimum(1 - 2.0**-k), k), dim=1)

    def times_at(self, share: float) -> Tensor:
        """t = 1 − u and the smallest step, (1, 2)."""
        return torch.tensor([[1 - share, float(LEVELS)]])

    # As in MeanFlow, the official code drops no label of the samples that learn from the network itself.
    place_drops = meanflow.MeanFlow.place_drops

    def split(self, t: Tensor) -> tuple[Tensor, ...]:
        """Positions of the samples of steps larger than the smallest; and, among these, of those twice as large."""
        larger = (t[:, 1] < LEVELS).nonzero().squeeze(1)
        return larger, (t[larger, 1] + 1 == LEVELS).nonzero().squeeze(1)

    def with_split(self, split: tuple[Tensor, ...]) -> "Shortcut":
        """The same process for samples that `split` has split."""
        return replace(self, positions=split)

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = t x + (1 − t) noise: (N, C, H, W), (N, 2), (N, C, H, W) → (N, C, H, W)."""
        return flow.interpolate(x, t[:, 0], noise)

    def loss(self, net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
        """‖s(x_t, t, d) − s_target‖² averaged over C H W: per sample (N,), and the tapped block outputs.

        s_target is x − noise at k = 7, and two half steps of the averaged network elsewhere (algorithm 1).
        """
        x_t, target = self.interpolate(x, t, noise), x - noise
        s, h = net(x_t, t.unbind(1), y, taps)
        larger, doubled = self.positions or self.split(t)
        target[larger] = self.two_half_steps(x_t[larger], t[larger], y[larger], doubled)
        return (s - target).square().flatten(1).mean(1), h

    @torch.no_grad()
    def two_half_steps(self, x_t: Tensor, t: Tensor, y: Tensor, doubled: Tensor) -> Tensor:
        """The mean of s(x_t, t, d/2) and s(x_{t+d/2}, t + d/2, d/2), what one step of size d is to do (eq. 5).

        doubled: positions of the samples whose half steps are smallest ones, and guided.
        """
        now, k = t.unbind(1)
        half = 2.0 ** -(k + 1)
        first = self._step(x_t, now, k + 1, y, doubled)
        middle = (x_t + column(half) * first).clamp(-LIMIT, LIMIT)
        second = self._step(middle, now + half, k + 1, y, doubled)
        return ((first + second) / 2).clamp(-LIMIT, LIMIT)

    def _step(self, x_t: Tensor, t: Tensor, k: Tensor, y: Tensor, smallest: Tensor) -> Tensor:
        """The averaged network's s, guided at the positions of smallest steps; in the precision of x_t."""
        assert self.average is not None, "the targets come from an averaged network: with_average"
        s = self.average(x_t, (t, k), y)[0].to(x_t.dtype)
        if self.guidance == 1 or not len(smallest):
            return s
        null_labels = torch.full_like(y[smallest], self.null_label)
        null = self.average(x_t[smallest], (t[smallest], k[smallest]), null_labels)[0].to(s.dtype)
        return s.index_copy(0, smallest, null + self.guidance * (s[smallest] - null))


@torch.no_grad()
def sample(net: Denoiser, noise: Tensor, y: Tensor, steps: int) -> Tensor:
    """Go from noise (N, C, H, W) at t = 0 to samples at t = 1 in 1, 2, 4 … 128 equal steps: one evaluation each."""
    k = steps.bit_length() - 1
    assert steps == 2**k <= 2**LEVELS, f"{steps} steps of a network that knows 1, 2, 4 … {2**LEVELS}"
    x = noise
    for i in range(steps):
        s, _ = net(x, (x.new_full((len(x),), i / steps), x.new_full((len(x),), k)), y)
        x = x + s.to(x.dtype) / steps
    return x
