"""REPA with two more levels, after SARA (arXiv 2503.08253): how tokens go together, and an adversary.

Its authors' equations and code were not to be had, so that settings and forms are ours: `docs/rivals.md`.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.method.randomness import generator
from harness.method.rivals.irepa import TokenConvolution
from harness.method.terms import AlignmentTerm, StepView, draw_weights, misalignment


class SaraTerm(AlignmentTerm):
    """The cosine of REPA, a · structure and b · the adversary's level, all in the projected tokens.

    structure: a. adversary: b; 0 is none, and then there is no discriminator. summed: the structure's squares are added
    up, not averaged. width: channels of the discriminator. rates: AdamW's for it, which are its own.
    """

    def __init__(
        self,
        *repa: Any,
        features: int,
        structure: float,
        summed: bool,
        adversary: float,
        width: int,
        rates: dict[str, Any],
    ) -> None:
        super().__init__(*repa)
        self.structure, self.summed, self.adversary, self.own_rates = structure, summed, adversary, rates
        self.discriminator = Discriminator(features, width) if adversary else None

    def forward(self, view: StepView) -> Tensor:
        """The three levels. The discriminator's loss adds its gradient, as if λ were 1, and nothing to the value."""
        levels = self.levels(view)
        value = levels["patch"]
        if self.structure:
            value = value + self.structure * levels["structure"]
        if self.adversary:
            own = levels["discriminator"] / self.coefficient(view.draws.step)
            value = value + self.adversary * levels["adversary"] + (own - own.detach())
        return value

    def levels(self, view: StepView) -> dict[str, Tensor]:
        """Scalars: "patch", "structure" and "adversary", which the tokens learn from, and "discriminator", its loss."""
        z, features = self.tokens(view)
        levels = {"patch": misalignment(z, features)}
        if self.structure:
            levels["structure"] = autocorrelation_error(z, features, self.summed)
        if self.discriminator:
            levels |= self.discriminator.losses(z, features)
        return levels

    def examine(self, view: StepView) -> tuple[Tensor, dict[str, Tensor]]:
        """The value, and each level by itself."""
        with torch.no_grad():
            levels = self.levels(view)
        return self(view), levels

    def initialise(self, seed: int) -> Self:
        """The projector as REPA's, the discriminator likewise, from a stream of its own."""
        super().initialise(seed)
        if self.discriminator:
            draw_weights(self.discriminator, generator(seed, "discriminator", 0))
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The projector at the training's rates, the discriminator at its own."""
        own = list(self.discriminator.parameters()) if self.discriminator else []
        return [{"params": list(self.projector.parameters())}, {"params": own, **self.own_rates}]


class Discriminator(nn.Module):
    """Tells an encoder's tokens from projected ones: three convolutions on their grid, their mean, one number.

    No normalisation over the batch: a sample is judged by itself, in whatever process or micro-batch.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        first, *others = TokenConvolution(features, width, 1), *(TokenConvolution(width, width, 3) for _ in range(2))
        self.layers = nn.Sequential(first, nn.SiLU(), *(layer for other in others for layer in (other, nn.SiLU())))
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, E) → (N,), above 0 for an encoder's."""
        return self.head(self.layers(tokens).mean(1)).flatten().float()

    def losses(self, z: Tensor, features: Tensor) -> dict[str, Tensor]:
        """ "adversary": −log D(z), by which the tokens learn and the discriminator does not, for its weights are
        constants there. "discriminator": its binary cross-entropy on both, by which it alone learns."""
        fixed = {name: weight.detach() for name, weight in self.named_parameters()}
        fooled: Tensor = torch.func.functional_call(self, fixed, (z,))
        fake, real = self(torch.cat([z.detach(), features.detach().to(z)])).chunk(2)
        errors = F.softplus(fake).mean() + F.softplus(-real).mean()
        return {"adversary": F.softplus(-fooled).mean(), "discriminator": errors / 2}


def autocorrelation_error(z: Tensor, features: Tensor, summed: bool = False) -> Tensor:
    """The squared difference of the cosines between all pairs of tokens: their mean, or their sum over T × T.

    z, features: (N, T, E) each → the mean over samples, a scalar; in float32 at least.
    """
    with torch.autocast(z.device.type, enabled=False):
        ours, theirs = (_autocorrelation(tokens) for tokens in (z, features))
        squares = (ours - theirs).square().mean(0)
    return squares.sum() if summed else squares.mean()


def _autocorrelation(tokens: Tensor) -> Tensor:
    """(N, T, E) → (N, T, T)."""
    unit = F.normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1)
    return unit @ unit.mT
