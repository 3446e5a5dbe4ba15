"""The terms of L = L_diff + Σ_k λ_k L_k: what each may ask for, and the two kinds that there are.

A term says which blocks it taps, what it draws, what parameters it brings and when it stops. What it may see of a
training step is a `StepView`: the clean images or latents, their labels with and without the drops, times and noise,
the tapped outputs of the very pass that the denoising loss is taken of, the frozen encoder's features where there is an
encoder, the network that learns and its moving average, and the process, which makes noisy images at any other times.

So a term can compare two blocks of one pass, or take the images themselves as targets; it can send the images once more
through the network or, without gradient, through its average, at times that it has drawn; and it can train modules of
its own, at rates of its own. What it draws comes from streams of its own, so that one term more changes nothing for the
others: all arms of a seed see the same times, noise and dropped labels. It sees no attention maps: a block would have
to return them as further taps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.method.backbone import DiT
from harness.method.losses import Potential, contrast, disperse, floor, pair_health
from harness.method.processes.process import Process
from harness.method.randomness import generator

DROPOUT = "dropout"  # the name of what is drawn for the network's dropout, beside those of terms
Blocks = tuple[int, ...]  # their numbers, 1 for the first
Step = int | None  # of the training; None is never
Views = list[tuple[Tensor, Tensor | None]]  # a view (N, T, D) and the second one, block by block


@dataclass(frozen=True)
class Draws:
    """All that one training step draws for its N samples."""

    t: Tensor  # (N,) or (N, K)
    noise: Tensor  # (N, C, H, W)
    dropped: Tensor  # (N,) bool: labels replaced by the null label
    step: int  # counted from 0
    own: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # of each term, by its name; all (N, …)
    split: tuple[Tensor, ...] = ()  # positions in these N of what the process treats differently, by `share_of`

    @property
    def keys(self) -> Tensor | None:
        """(N,): of the elements that the network leaves out; None without dropout."""
        return self.own.get(DROPOUT, {}).get("keys")

    def map(self, change: Callable[[Tensor], Tensor]) -> "Draws":
        """The same draws, each changed in the same way: cut, or brought to a device."""
        own = {term: {name: change(value) for name, value in drawn.items()} for term, drawn in self.own.items()}
        split = tuple(change(positions) for positions in self.split)
        return Draws(change(self.t), change(self.noise), change(self.dropped), self.step, own, split)

    def slice(self, start: int, stop: int) -> "Draws":
        """The draws of samples start … stop − 1: a rank's or a micro-batch's share."""
        return replace(self, split=()).map(lambda value: value[start:stop])


@dataclass(frozen=True)
class StepView:
    """What a term may see of a training step's N samples."""

    net: DiT  # the network that learns
    process: Process
    x: Tensor  # (N, C, H, W), clean
    labels: Tensor  # (N,)
    y: Tensor  # (N,), the labels with some dropped, as the network is given them
    draws: Draws
    features: Tensor | None = None  # (N, T, E) of the frozen encoder, where there is one
    average: DiT | None = None  # the moving average of the network
    h: dict[int, Tensor] = field(default_factory=dict)  # (N, T, D) for each tapped block, by its number

    @property
    def t(self) -> Tensor:
        """(N,): the times of the images, of a process with two times the first of them."""
        return self.draws.t if self.draws.t.dim() == 1 else self.draws.t[:, 0]

    def outputs(self, net: DiT, t: Tensor, noise: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Block outputs [(N, T, D) …] of a network at times and noise of one's own, up to the last of these blocks."""
        with net.dropping(self.draws.keys if net is self.net else None):
            return net.features(self.process.interpolate(self.x, t, noise), net.times(t), self.y, blocks)


class Term(nn.Module):
    """λ_k L_k; `forward(view)` is L_k, a scalar, before λ.

    name: its key in the log and the first part of its parameters' names in checkpoints. blocks: those it taps and
    teaches. lambda_: λ. stop: the first training step without it; None is never. warm_up: steps over which λ grows. Its
    parameters are trained as the network's are but not averaged, and are needed in training only.
    """

    floor: float | None = None  # the smallest value of L_k, where it is known
    needs_features = False  # of the frozen encoder
    warm_up: Step = None
    flat_start = False  # whether it has no gradient as long as every block is the identity, as at the first step
    references: Blocks = ()  # blocks that it taps to compare with, and does not teach

    def __init__(self, name: str, blocks: Blocks, lambda_: float, stop: Step = None) -> None:
        super().__init__()
        self.name, self.blocks, self.lambda_, self.stop = name, blocks, lambda_, stop
        self.prefix = f"{name}."  # of its further keys in the log
        self.rates: dict[str, Any] = {}  # AdamW's for its parameters, where they are not the training's

    def coefficient(self, step: int) -> float:
        """λ at a training step; where it is 0 the term is neither drawn for nor computed.

        While it warms up it is λ/`warm_up` at the first step, twice that at the second, …
        """
        if self.stop is not None and step >= self.stop:
            return 0.0
        return self.lambda_ * min(1.0, (step + 1) / self.warm_up) if self.warm_up else self.lambda_

    def draw(self, draws: Draws, process: Process, seed: int) -> dict[str, Tensor]:
        """What it draws for the whole global batch, each (N, …), each from a stream at (seed, purpose, draws.step)."""
        return {}

    def initialise(self, seed: int) -> Self:
        """Draw its parameters, from a stream of its own. Returns the term itself."""
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What of it AdamW trains, each group with the rates that are not the training's."""
        return [{"params": list(self.parameters()), **self.rates}]

    def examine(self, view: StepView) -> tuple[Tensor, dict[str, Tensor]]:
        """L_k, and further scalars that tell whether it is well."""
        return self(view), {}

    def rests(self, health: dict[str, Tensor]) -> bool:
        """Whether a rule of its own leaves it without gradient for now, by the log's scalars of `examine`."""
        return False


@dataclass(frozen=True)
class Sizes:
    """What a term may have to know of the run before it is made. features: width of the frozen encoder's, if any."""

    width: int  # D
    depth: int  # blocks
    tokens: int  # T
    patch: int
    channels: int  # of an image or latent
    size: int  # its height and width
    classes: int
    features: int | None = None


class ConfiguredTerm(Term):
    """A term that is made of its settings: what a plug-in derives its own from.

    Settings: their model, like `config.settings.TermSettings`. formula: L_k in LaTeX, for the report. In the log,
    and in checkpoints, its name has "term-" before it, so that it is no other's.
    """

    Settings: ClassVar[Any]
    formula: ClassVar[str] = ""

    def __init__(self, name: str, settings: Any, sizes: Sizes) -> None:
        super().__init__(f"term-{name}", settings.blocks, settings.lambda_, settings.stop)
        self.settings = settings
        self.build(sizes)

    def build(self, sizes: Sizes) -> None:
        """Make the modules that it trains, if it has any; `initialise` draws their weights."""

    def stream(self, purpose: str, seed: int, step: int) -> torch.Generator:
        """The generator of one thing that it draws at a step: nobody else draws from it."""
        return generator(seed, f"{self.name}: {purpose}", step)

    def grouped(self, x: Tensor) -> Tensor:
        """(N, …) → (N/group, group, …): samples of a group are together in whatever process or micro-batch."""
        group = self.settings.group or 1
        assert len(x) % group == 0, f"{len(x)} samples are no multiple of the group of {group}"
        return x.unflatten(0, (-1, group))


class DispersiveTerm(Term):
    """L_reg of one view of the images: the paper's Dispersive Loss.

    The value of several blocks is their mean (our reading). group: pairs are formed inside contiguous blocks of this
    many samples (the paper's local batch). share: τ in units of D before the first step, which `scale` is given.
    """

    share: float | None = None

    def __init__(self, potential: Potential, lambda_: float, blocks: Blocks, group: int, stop: Step = None) -> None:
        super().__init__("regularizer", blocks, lambda_, stop)
        self.potential, self.group = potential, group
        self.prefix = ""  # keys of all stored logs
        self.floor = floor(potential, group)

    def scale(self, distance: float) -> None:
        """Take τ as its share of D before the first step; three digits of it, which other machines find too."""
        if self.share:
            self.potential = replace(self.potential, tau=float(f"{self.share * distance:.3g}"))

    def forward(self, view: StepView) -> Tensor:
        """The mean over tapped blocks."""
        return self.loss(self.views(view))

    def views(self, view: StepView) -> Views:
        """The output of each tapped block."""
        return [(view.h[block], None) for block in self.blocks]

    def loss(self, views: Views) -> Tensor:
        """The mean over blocks of the dispersive loss of one view, or of the contrastive one of two."""
        values = [
            disperse(h, self.potential, self.group)
            if h_plus is None
            else contrast(h, h_plus, self.potential, self.group)
            for h, h_plus in views
        ]
        return torch.stack(values).mean()

    def examine(self, view: StepView) -> tuple[Tensor, dict[str, Tensor]]:
        """L_reg, and which pairs it still pushes apart (`losses.pair_health`), the mean over blocks."""
        views = self.views(view)
        health = [pair_health(h, h_plus, self.potential, self.group) for h, h_plus in views]
        return self.loss(views), {name: torch.stack([block[name] for block in health]).mean() for name in health[0]}


class ContrastiveTerm(DispersiveTerm):
    """L_reg of two views of the same images; the second has a noise and a time of its own.

    The denoising loss is taken on the first view only, and the second one is computed no further than the last tapped
    block (our reading: the paper does not say). gap: None draws t⁺ as t (the paper's independent noise), a number by
    the process's `nearby_times`, uniform within it (restricted noise); ε⁺ is independent of ε in both.
    """

    def __init__(
        self, potential: Potential, lambda_: float, blocks: Blocks, group: int, gap: float | None, stop: Step = None
    ) -> None:
        super().__init__(potential, lambda_, blocks, group, stop)
        self.gap, self.floor = gap, None

    def draw(self, draws: Draws, process: Process, seed: int) -> dict[str, Tensor]:
        """ "t" and "noise" of the second view."""
        g = generator(seed, "times of the second view", draws.step)
        t = process.draw_times(len(draws.t), g) if self.gap is None else process.nearby_times(draws.t, self.gap, g)
        noise = torch.randn(draws.noise.shape, generator=generator(seed, "noise of the second view", draws.step))
        return {"t": t, "noise": noise}

    def views(self, view: StepView) -> Views:
        """The output of each tapped block, that of the second view beside it."""
        second = view.outputs(view.net, **view.draws.own[self.name], blocks=self.blocks)
        return [(h, h_plus) for (h, _), h_plus in zip(super().views(view), second, strict=True)]


def misalignment(z: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine similarity over channels of tokens (N, T, D), in [−1, 1]; computed in float32 at least."""
    at_least = torch.promote_types(z.dtype, torch.float32)
    return -F.cosine_similarity(z.to(at_least), target.to(at_least), dim=-1).mean()


def smooth_distance(z: Tensor, target: Tensor, beta: float = 0.05) -> Tensor:
    """The mean over all elements of smooth-ℓ1: d²/2β where |d| < β, else |d| − β/2; in float32 at least."""
    at_least = torch.promote_types(z.dtype, torch.float32)
    return F.smooth_l1_loss(z.to(at_least), target.to(at_least), beta=beta)


class AlignmentTerm(Term):
    """REPA (Yu et al. 2024, arXiv 2410.06940): a block's tokens, projected, point where a frozen encoder's features do.

    The encoder sees the clean image and the network the noisy one; only network and projector learn. projector: block
    output (N, T, D) → (N, T, E). prepare: what is done to the features (N, T, E) before they are pointed to.
    """

    needs_features = True

    def __init__(
        self,
        projector: nn.Module,
        block: int,
        lambda_: float,
        stop: Step = None,
        prepare: Callable[[Tensor], Tensor] = lambda features: features,
    ) -> None:
        super().__init__("alignment", (block,), lambda_, stop)
        self.projector, self.prepare = projector, prepare

    def forward(self, view: StepView) -> Tensor:
        """Minus the mean cosine similarity of all tokens, in [−1, 1] (Yu et al., eq. 8)."""
        return misalignment(*self.tokens(view))

    def tokens(self, view: StepView) -> tuple[Tensor, Tensor]:
        """The block's tokens, projected, and the encoder's, prepared: (N, T, E) each."""
        assert view.features is not None, "an alignment needs its encoder"
        z = self.projector(view.h[self.blocks[0]])
        assert z.shape == view.features.shape, (z.shape, view.features.shape)
        return z, self.prepare(view.features)

    def initialise(self, seed: int) -> Self:
        """As REPA's code does: xavier-uniform with zero bias."""
        draw_weights(self.projector, generator(seed, "projector", 0))
        return self


def linear_layers(width: int, hidden: int, features: int) -> nn.Sequential:
    """REPA's projector; hidden: width of its two hidden layers."""
    first, second, last = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, features)
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), last)


def draw_weights(module: nn.Module, g: torch.Generator) -> None:
    """Draw the weights of a module xavier-uniform; its biases are zero."""
    for weight in module.parameters():
        if weight.dim() == 1:
            nn.init.zeros_(weight)
        else:
            nn.init.xavier_uniform_(weight, generator=g)
