"""DiverseDiT's loss (arXiv 2603.04239, equations 9 to 15): the blocks of one pass are kept from saying the same.

Its authors published no code of it. What the equations leave open is ours: `docs/rivals.md`.
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.method.terms import ConfiguredTerm, StepView


class DiverseDiT(ConfiguredTerm):
    """w (orthogonality + mutual information + dispersion), over some blocks that each step draws; w follows the sum."""

    def initialise(self, seed: int) -> Self:
        """Keep the seed, which the blocks of a step are drawn by."""
        self.seed = seed
        return self

    def forward(self, view: StepView) -> Tensor:
        """The mean over groups of samples; w is a constant for the gradient."""
        value, weight = self._weighed(self.parts(view))
        return (weight * value).mean()

    def parts(self, view: StepView) -> dict[str, Tensor]:
        """Each of the three by its name, (G,) for G groups of samples."""
        blocks = [self.grouped(view.h[number]).flatten(1, 2) for number in self._drawn(view.draws.step)]  # (G, g T, D)
        blocks = [h.to(torch.promote_types(h.dtype, torch.float32)) for h in blocks]
        means = [h.mean(1) for h in blocks]
        of_channels = torch.stack([mean / h.norm(dim=1) for mean, h in zip(means, blocks, strict=True)]).mean(0)
        relative = of_channels / of_channels.amax(1, keepdim=True)
        return {
            "orthogonality": mean_cosine(means),
            "mutual_information": mean_cosine(blocks).mean(1),
            "dispersion": -relative.var(1, correction=0),
        }

    def examine(self, view: StepView) -> tuple[Tensor, dict[str, Tensor]]:
        """The value; the three parts and w, the means over groups."""
        with torch.no_grad():
            parts = self.parts(view)
            health = parts | {"weight": self._weighed(parts)[1]}
        return self(view), {name: scalars.mean() for name, scalars in health.items()}

    def rests(self, health: dict[str, Tensor]) -> bool:
        """Where w is 0 in every group: the blocks differ enough."""
        return not health[f"{self.prefix}weight"]

    def _weighed(self, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of the parts and its w, (G,) each: 1 above `high`, 0 up to `low`, (L − low)/high between them."""
        settings = self.settings
        value = settings.share * torch.stack(list(parts.values())).sum(0)
        rising = ((value - settings.low) / settings.high).clamp(min=0)
        return value, torch.where(value > settings.high, 1.0, rising).detach()

    def _drawn(self, step: int) -> list[int]:
        """The numbers of the blocks of a step, the same in every process."""
        order = torch.randperm(len(self.blocks), generator=self.stream("blocks", self.seed, step))
        return [self.blocks[k] for k in sorted(order[: self.settings.count].tolist())]


def mean_cosine(vectors: Sequence[Tensor]) -> Tensor:
    """The mean over all pairs of K of the cosine over the last axis: (…, D) each → (…).

    Of unit vectors u, Σ_{i ≠ j} u_i·u_j = ‖Σ u_i‖² − K: one sum instead of K(K − 1)/2 products.
    """
    k = len(vectors)
    total = sum(F.normalize(v, dim=-1) for v in vectors[1:]) + F.normalize(vectors[0], dim=-1)
    return (total.square().sum(-1) - k) / (k * (k - 1))
