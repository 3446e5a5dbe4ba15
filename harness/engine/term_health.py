"""The health of a loss's terms while they train: how hard each pulls beside the rest of the loss, and on which pairs.

It is looked into at the first step and at those that the log has a line for, by a pass of its own through the tapped
blocks: what is trained does not change by a bit, and other steps cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.engine.distributed import World
from harness.errors import UserError
from harness.method.objective import Objective
from harness.method.terms import DispersiveTerm, StepView, Term

ACTING = 2  # the step before which blocks are the identity: the first moves the head, and the second their gates
REMEDIES = {
    "infonce-l2": "all distances are far beyond τ; raise regularizer.tau ({0.tau:g} now)",
    "infonce-cosine": "τ is far below all differences of cosines; raise regularizer.tau ({0.tau:g} now)",
    "hinge": "all distances are beyond the margin; raise regularizer.epsilon ({0.epsilon:g} now)",
}
INFLATED, FAR = 6.0, 3.0  # D over D at the start, and τ under it, of an overshoot: docs/running.md


class TermHealth:
    """Looks into one training's terms; all processes of the world must look at the same steps.

    precision: the context in which a training step computes.
    """

    def __init__(self, objective: Objective, world: World, precision: Callable[[], torch.autocast]) -> None:
        self.objective, self.world, self.precision = objective, world, precision
        self.terms: list[Term] = []  # that took part in the step that was looked into
        self.pulls: dict[str, Tensor] = {}  # the gradient of λ_k L_k in the blocks that the term taps
        self.health: dict[str, Tensor] = {}  # further scalars, by their keys in the log
        self.spread: dict[Term, dict[str, float]] = {}  # D and the size of each term's features
        self.start: dict[str, float] = {}  # D of the blocks of a dispersive term before the first step

    def begin(self, view: Callable[[], StepView]) -> None:
        """Measure D before the first step, of a view of the whole first batch, and give it to the dispersive terms.

        The leading process does it for all, and of any resumed training the same comes out.
        """
        terms = [term for term in self.objective.terms if isinstance(term, DispersiveTerm)]
        self.start = self.world.decide(lambda: _distances(terms, view())) if terms else {}
        for term in terms:
            term.scale(self.start[term.name])

    def look(self, views: Sequence[StepView]) -> None:
        """Take the gradient of each λ_k L_k in its tapped blocks, before the step of these micro-batches.

        Raises:
            UserError: one of them is zero, in all processes: at the first step, or where a term has none yet, later.
        """
        step = views[0].draws.step
        self.terms = self.objective.active(step)
        parts = [self._look(view) for view in views]
        means = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
        self.health = self.world.mean(means)
        self.pulls = {term.name: self.health.pop(term.name) for term in self.terms}
        samples = sum(len(view.x) for view in views) * self.world.size
        self.spread = {term: self._spread_of(term, samples) for term in self.terms if term.blocks}
        for term in self.terms:
            due = step >= ACTING if term.flat_start else step == 0
            if due and not self.pulls[term.name].any() and not term.rests(self.health):
                when = f"at step {step + 1}" if step else "at the first step"
                raise UserError(f"{term.name}: its gradient is zero {when}: {self._remedy(term)}")

    def _spread_of(self, term: Term, samples: int) -> dict[str, float]:
        mean, square = (self.health.pop(f"{term.name}/{name}") for name in ("mean", "square"))
        return {f"{term.prefix}{name}": value for name, value in _spread(mean, square, samples).items()}

    def _look(self, view: StepView) -> dict[str, Tensor]:
        """Return each term's gradient, by its name, and its further scalars, by their keys in the log."""
        taps, step = self.objective.taps(view.draws.step), view.draws.step
        with self.precision():
            h = view.outputs(view.net, view.draws.t, view.draws.noise, taps) if taps else []
            view = replace(view, h=dict(zip(taps, h, strict=True)))
            examined = [(term, *term.examine(view)) for term in self.terms]
            moments = {term.name: _moments(term, view) for term in self.terms if term.blocks}
        looked: dict[str, Tensor] = {}
        for term, value, health in examined:
            loss, parameters = term.coefficient(step) * value, self._parameters(term)
            # A tapped block may be a mere reference: it has no gradient of this term.
            pull = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            looked |= {f"{term.name}/{name}": moment for name, moment in moments.get(term.name, {}).items()}
            looked |= {term.name: _flat(pull)} | {term.prefix + name: scalar for name, scalar in health.items()}
        return looked

    def _parameters(self, term: Term) -> list[Tensor]:
        return [p for number in term.blocks for p in self.objective.net.blocks[number - 1].parameters()]

    def _remedy(self, term: Term) -> str:
        if not isinstance(term, DispersiveTerm):
            return f"its loss does not depend on block {term.blocks}; choose another"
        remedy = REMEDIES.get(term.potential.loss)
        if remedy and float(self.health["saturated_pairs"]) == 1:
            return remedy.format(term.potential)
        return "the features do not vary within a group; choose other regularizer.blocks"

    def line(self) -> dict[str, float]:
        """Return what the log says of the step that was looked into, once its gradient is there.

        gradient_share: the norm of the gradient of λ_k L_k over the sum of it and that of the rest of the loss, both in
        the weights of the tapped blocks: r/(1 + r) of their ratio r, which has no bound where the rest has no gradient
        yet; 0.5 where both pull alike. distance, rms: D and the size of the features in the tapped blocks; of InfoNCE
        with ℓ2 also tau and distance_start, D before the first step, and overshoot, D in units of that, where the loss
        has blown the features up (`INFLATED`) towards a τ that is far above (`FAR`).
        """
        shares = {f"{term.prefix}gradient_share": self._share(term) for term in self.terms}
        lines = shares | {name: float(scalar) for name, scalar in self.health.items()}
        lines |= {name: value for spread in self.spread.values() for name, value in spread.items()}
        for term in self.terms:
            if isinstance(term, DispersiveTerm) and term.potential.loss == "infonce-l2" and term.name in self.start:
                lines |= _overshoot(lines["distance"], self.start[term.name], term.potential.tau)
        return lines

    def _share(self, term: Term) -> float:
        pull, gradients = self.pulls[term.name], [p.grad for p in self._parameters(term) if p.grad is not None]
        ours, rest = float(pull.norm()), float((_flat(gradients) - pull).norm())
        return ours / (ours + rest) if ours else 0.0


def _moments(term: Term, view: StepView) -> dict[str, Tensor]:
    """Return the mean (K, T·D) of the features in the K blocks that a term taps, and their mean square, scalar.

    Both are means over samples, and so the same however the batch is shared out.
    """
    h = torch.stack([view.h[block].detach().flatten(1).float() for block in term.blocks])
    return {"mean": h.mean(1), "square": h.square().mean()}


def _spread(mean: Tensor, square: Tensor, samples: int) -> dict[str, float]:
    """Return D, the mean ‖z_i − z_j‖²/dim over pairs i ≠ j of so many samples, and the size of the features.

    The mean of (z_i − z_j)² is twice the variance with one sample less.
    """
    variance = float(square - mean.square().mean()) * samples / max(1, samples - 1)
    return {"distance": 2 * variance, "rms": float(square.sqrt())}


@torch.no_grad()
def _distances(terms: Sequence[Term], view: StepView) -> dict[str, float]:
    taps = sorted({block for term in terms for block in term.blocks})
    h = view.outputs(view.net, view.draws.t, view.draws.noise, taps)
    view = replace(view, h=dict(zip(taps, h, strict=True)))
    return {term.name: _spread(**_moments(term, view), samples=len(view.x))["distance"] for term in terms}


def _overshoot(distance: float, start: float, tau: float) -> dict[str, float]:
    blown_up = distance >= INFLATED * start > 0 and tau * FAR >= start
    return {"distance_start": start, "tau": tau} | ({"overshoot": distance / start} if blown_up else {})


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])
