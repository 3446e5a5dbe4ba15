"""SRA (arXiv 2505.02831): a block's tokens, through a head, become those of a deeper block of the averaged network.

The average sees the same image with the same noise and label, dropped or not, but less of the noise. Neither it nor its
output learns, and the head is thrown away after training.
"""

from typing import Self

import torch
from torch import Tensor, nn

from harness.method.processes.process import Process
from harness.method.terms import ConfiguredTerm, Draws, Sizes, StepView, draw_weights, misalignment, smooth_distance


class SelfAlignment(ConfiguredTerm):
    """For SiT's times, which are 1 at data."""

    floor = 0.0

    def build(self, sizes: Sizes) -> None:
        """Make the head j."""
        d = sizes.width
        self.head = nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))

    def initialise(self, seed: int) -> Self:
        """As the authors' code does: xavier-uniform with zero bias."""
        draw_weights(self.head, self.stream("head", seed, 0))
        return self

    def draw(self, draws: Draws, process: Process, seed: int) -> dict[str, Tensor]:
        """By how much the teacher's times are nearer to data, (N,)."""
        u = torch.rand(len(draws.t), generator=self.stream("teacher's times", seed, draws.step))
        return {"nearer": self.settings.gap * u}

    def coefficient(self, step: int) -> float:
        """λ; that of smooth-ℓ1 falls once it is no longer constant."""
        weight = super().coefficient(step)
        if self.settings.constant is None:
            return weight
        return weight * 0.1 ** (max(0, step - self.settings.constant) / self.settings.tenfold)

    def forward(self, view: StepView) -> Tensor:
        """The mean distance of all tokens of all samples."""
        assert view.average is not None, "the teacher is the moving average"
        t = (view.t + view.draws.own[self.name]["nearer"]).clamp(max=1)
        with torch.no_grad():
            (target,) = view.outputs(view.average, t, view.draws.noise, (self.settings.teacher,))
        (taught,) = self.blocks
        return self.distance(self.head(view.h[taught]), target)

    def distance(self, z: Tensor, target: Tensor) -> Tensor:
        """1 − the cosine over channels, or smooth-ℓ1, of tokens (N, T, D)."""
        if self.settings.distance == "cosine":
            return 1 + misalignment(z, target)
        return smooth_distance(z, target)
