"""The paper on one page: L(X) = E[L_diff] + Σ_k λ_k L_k, the L_k on the outputs of tapped blocks (`terms.py`).

Baseline: no term. Dispersive: one view of the images. Contrastive: two. REPA, to which the paper compares itself, is a
term beside these, alone or together with one of them.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.method.backbone import DiT
from harness.method.processes.process import FollowsCurriculum, PlacesDrops, Process, SplitsBatch, WeighsErrors
from harness.method.randomness import generator
from harness.method.terms import DROPOUT, Draws, StepView, Term


def draw(
    process: Process,
    terms: Sequence[Term],
    shape: Sequence[int],
    label_drop: float,
    seed: int,
    step: int,
    dropout: float = 0.0,
) -> Draws:
    """Draw for the whole global batch of `shape` (N, C, H, W), on the CPU; every rank draws all and keeps its slice.

    terms: those that take part in the step. Each quantity has its own stream at (seed, purpose, step): all arms of a
    seed see the same times, noise and dropped labels, whatever their terms draw beside (common random numbers).
    """
    n = shape[0]
    if isinstance(process, FollowsCurriculum):
        process = process.at_step(step)
    t = process.draw_times(n, generator(seed, "times", step))
    noise = torch.randn(*shape, generator=generator(seed, "noise", step))
    dropped = torch.rand(n, generator=generator(seed, "label drop", step)) < label_drop
    if isinstance(process, PlacesDrops):
        dropped = process.place_drops(dropped)
    draws = Draws(t, noise, dropped, step)
    own = {term.name: term.draw(draws, process, seed) for term in terms}
    if dropout:
        own[DROPOUT] = {"keys": torch.randint(2**32, (n,), generator=generator(seed, DROPOUT, step))}
    return replace(draws, own=own)


def share_of(draws: Draws, part: slice, process: Process) -> Draws:
    """A rank's or a micro-batch's share of the draws, on the CPU, split as the process treats its samples."""
    mine = draws.slice(part.start, part.stop)
    return replace(mine, split=process.split(mine.t)) if isinstance(process, SplitsBatch) else mine


class Objective(nn.Module):
    """Loss of a training step; the module that DistributedDataParallel wraps.

    Holds no weights but the network's and the terms'. num_classes: the index of the null label.
    """

    def __init__(self, net: DiT, process: Process, terms: Sequence[Term], num_classes: int) -> None:
        super().__init__()
        self.net, self.process, self.num_classes, self.terms = net, process, num_classes, tuple(terms)
        for term in terms:
            assert not hasattr(self, term.name), f"two terms of the name {term.name}"
            self.add_module(term.name, term)

    def active(self, step: int) -> list[Term]:
        """The terms that take part in a training step, counted from 0."""
        return [term for term in self.terms if term.coefficient(step)]

    def taps(self, step: int) -> list[int]:
        """The blocks that the terms of a training step tap."""
        return sorted({block for term in self.active(step) for block in (*term.blocks, *term.references)})

    def forward(
        self, x: Tensor, y: Tensor, draws: Draws, features: Tensor | None = None, average: DiT | None = None
    ) -> dict[str, Tensor]:
        """x (N, C, H, W), y (N,) → scalars "loss" (to differentiate), "denoising", and each term's L_k by its name,
        before λ; where the process weighs errors, "squared_error" (before that, averaged over C H W).

        features (N, T, E): those of the frozen encoder, and average: the network's moving one, for terms that ask.
        """
        view, taps = self.view(x, y, draws, features, average), self.taps(draws.step)
        process = self.process.with_split(draws.split) if isinstance(self.process, SplitsBatch) else self.process
        with self.net.dropping(draws.keys):
            error, h = process.loss(self.net, x, view.y, draws.t, draws.noise, taps)
        loss = process.weigh(error) if isinstance(process, WeighsErrors) else error
        total = loss.mean()
        values = {"denoising": total.detach()}
        if loss is not error:
            values["squared_error"] = error.detach().mean() / x[0].numel()
        view = replace(view, h=dict(zip(taps, h, strict=True)))
        for term in self.active(draws.step):
            value = term(view)
            total, values[term.name] = total + term.coefficient(draws.step) * value, value.detach()
        return {"loss": total, **values}

    def view(
        self, x: Tensor, y: Tensor, draws: Draws, features: Tensor | None = None, average: DiT | None = None
    ) -> StepView:
        """What the terms see of a step, but for the tapped outputs, `h`; the arguments are those of `forward`."""
        with_drops = torch.where(draws.dropped, self.num_classes, y)
        return StepView(self.net, self.process, x, y, with_drops, draws, features, average)
