"""The health of a regulariser while it trains: how hard it pulls beside the rest of the loss, and on which pairs.

It is looked into at the first step and at those that the log has a line for, by a pass of its own through the tapped
blocks: what is trained does not change by a bit, and other steps cost nothing.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.engine.batches import Batch
from harness.engine.distributed import World
from harness.errors import UserError
from harness.method.objective import Objective, Regularizer, repel
from harness.method.pairs import pair_terms

REMEDIES = {
    "infonce-l2": "all distances are far beyond τ; raise regularizer.tau ({0.tau:g} now)",
    "infonce-cosine": "τ is far below all differences of cosines; raise regularizer.tau ({0.tau:g} now)",
    "hinge": "all distances are beyond the margin; raise regularizer.epsilon ({0.epsilon:g} now)",
}
OTHERWISE = "the features do not vary within a group; choose other regularizer.blocks"


class Health:
    """Looks into one training's regulariser; all processes of the world must look at the same steps.

    precision: the context in which a training step computes. Without a regulariser there is nothing to see.
    """

    def __init__(self, objective: Objective, world: World, precision: Callable[[], torch.autocast]) -> None:
        self.objective, self.world, self.precision = objective, world, precision
        self.regularizer = objective.regularizer
        numbers = self.regularizer.blocks if self.regularizer else ()
        self.parameters = [p for number in numbers for p in objective.net.blocks[number - 1].parameters()]
        self.pull = torch.zeros(())
        self.terms: dict[str, Tensor] = {}

    def look(self, batches: Sequence[Batch], first: bool) -> None:
        """Take the gradient of λ L_reg in the tapped blocks, before the step of these micro-batches.

        Raises:
            UserError: at the first step it is zero, in all processes.
        """
        regularizer = self.regularizer
        if regularizer is None:
            return
        parts = [self._look(regularizer, batch) for batch in batches]
        self.pull = self.world.mean({"pull": torch.stack([pull for pull, _ in parts]).mean(0)})["pull"]
        self.terms = self.world.mean(_means([terms for _, terms in parts]))
        if first and not self.pull.any():
            raise UserError(f"regularizer: its gradient is zero at the first step: {self._remedy(regularizer)}")

    def _remedy(self, regularizer: Regularizer) -> str:
        beyond = float(self.terms.get("saturated_pairs", 0)) == 1
        remedy = REMEDIES.get(regularizer.potential.loss, OTHERWISE) if beyond else OTHERWISE
        return remedy.format(regularizer.potential)

    def _look(self, regularizer: Regularizer, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        objective, draws, potential = self.objective, batch.draws, regularizer.potential
        y = torch.where(draws.dropped, objective.num_classes, batch.y)
        x_t = objective.process.interpolate(batch.x, draws.t, draws.noise)
        with self.precision():
            h = objective.net.features(x_t, objective.times(draws.t), y, regularizer.blocks)
            views = objective.views(h, batch.x, y, draws)
            value = repel(views, potential)
        gradients = torch.autograd.grad(regularizer.weight * value, self.parameters)
        return _flat(gradients), _means([pair_terms(z, z_plus, potential) for z, z_plus in views])

    def line(self) -> dict[str, float]:
        """Return what the log says of the step that was looked into, once its gradient is there.

        gradient_share: the norm of the gradient of λ L_reg over the sum of it and that of the rest of the loss, both in
        the weights of the tapped blocks: r/(1 + r) of their ratio r, which has no bound where the rest has no gradient
        yet; 0.5 where both pull alike.
        """
        if self.regularizer is None:
            return {}
        ours = float(self.pull.norm())
        rest = float((_flat([p.grad for p in self.parameters if p.grad is not None]) - self.pull).norm())
        share = ours / (ours + rest) if ours else 0.0
        return {"gradient_share": share, **{name: float(term) for name, term in self.terms.items()}}


def _means(terms: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])
