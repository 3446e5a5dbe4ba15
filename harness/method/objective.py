"""The paper on one page: L(X) = E[L_diff] + λ · L_reg, with L_reg on the outputs of tapped blocks.

REPA, to which the paper compares itself, adds a term of its own to the same sum (`alignment.py`).

Baseline: no regulariser. Dispersive: one view, `losses.disperse`. Contrastive: a second view of the same images with
its own noise and time, `losses.contrast`; the denoising loss is taken on the first view only, and the second one is
computed no further than the last tapped block (our reading: the paper does not say).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.method.alignment import Alignment
from harness.method.backbone import DiT
from harness.method.guidance import Network
from harness.method.losses import Potential, contrast, disperse
from harness.method.randomness import generator

Views = list[tuple[Tensor, Tensor | None]]  # a view (N/group, group, T·D) and the second one, block by block


class Process(Protocol):
    """A generative process, such as the module `flow`.

    Its times t are (N,), or (N, K): a network of one or two times is given the first columns. A dropped label is the
    null label; a process that must know which were dropped is told that label when it is made.
    """

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Times for n samples, (N,) or (N, K)."""
        ...

    def nearby_times(self, t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
        """Times of a second view under restricted noise: no further from t than `gap` of the way from data to noise."""
        ...

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy images x_t, what the network is given."""
        ...

    def loss(
        self, net: Network, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Denoising loss per sample, (N,), and the tapped block outputs."""
        ...


@runtime_checkable
class PlacesDrops(Protocol):
    """What a process may have beside `Process`: a say in which samples lose their labels."""

    def place_drops(self, dropped: Tensor) -> Tensor:
        """(N,) bool, drawn independently → (N,) bool, as many of them, moved to where the process has them."""
        ...


@runtime_checkable
class WeighsErrors(Protocol):
    """What a process has beside `Process` where its loss hides how large the error is: the two halves of it."""

    def squared_error(
        self, net: Network, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Squared error per sample, summed over C H W, (N,), and the tapped block outputs."""
        ...

    def weigh(self, error: Tensor) -> Tensor:
        """(N,) squared errors → (N,) the process's loss."""
        ...


@runtime_checkable
class FollowsCurriculum(Protocol):
    """What a process may have beside `Process`: times whose law changes as training goes on."""

    def at_step(self, step: int) -> Process:
        """The process as it draws times at a training step, counted from 0."""
        ...


@runtime_checkable
class LearnsFromAverage(Protocol):
    """What a process may have beside `Process`: targets that come from the moving average of the network."""

    def with_average(self, average: Network) -> Process:
        """The same process, with the network that makes its targets."""
        ...


@dataclass(frozen=True)
class Regularizer:
    """λ · L_reg in plain numbers.

    kind: "dispersive" or "contrastive". weight: λ. blocks: 1-based numbers of the blocks; the value of several is
    their mean (our reading). group: pairs are formed inside contiguous blocks of this many samples (the paper's local
    batch). noise, contrastive only: "independent" (t⁺ drawn as t) or "restricted" (t⁺ by the process's `nearby_times`:
    uniform within the gap); ε⁺ is independent of ε in both. The gap is not published: its default is our reading.
    """

    kind: str
    potential: Potential
    weight: float
    blocks: tuple[int, ...]
    group: int
    noise: str = "independent"
    gap: float = 0.005

    def __post_init__(self) -> None:
        assert self.kind in ("dispersive", "contrastive"), self.kind
        assert self.noise in ("independent", "restricted"), self.noise
        assert self.blocks, "a regulariser acts on at least one block"
        assert self.group >= 2, self.group


@dataclass(frozen=True)
class Draws:
    """All that one training step draws for its N samples; the second view only where the regulariser has one."""

    t: Tensor  # (N,) or (N, K)
    noise: Tensor  # (N, C, H, W)
    dropped: Tensor  # (N,) bool: labels replaced by the null label
    t_plus: Tensor | None = None
    noise_plus: Tensor | None = None

    def slice(self, start: int, stop: int) -> "Draws":
        """The draws of samples start … stop − 1: a rank's or a micro-batch's share."""
        return replace(self, **{name: value[start:stop] for name, value in self._tensors().items()})

    def to(self, device: torch.device | str) -> "Draws":
        """The same draws on a device."""
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in self._tensors().items()})

    def pinned(self) -> "Draws":
        """The same draws in memory that a GPU reads by itself."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def draw(
    process: Process, regularizer: Regularizer | None, shape: Sequence[int], label_drop: float, seed: int, step: int
) -> Draws:
    """Draw for the whole global batch of `shape` (N, C, H, W), on the CPU; every rank draws all and keeps its slice.

    Each quantity has its own stream at (seed, purpose, step): all arms of a seed see the same times, noise and dropped
    labels, whether or not they have a second view (common random numbers).
    """
    n = shape[0]
    if isinstance(process, FollowsCurriculum):
        process = process.at_step(step)
    t = process.draw_times(n, generator(seed, "times", step))
    noise = torch.randn(*shape, generator=generator(seed, "noise", step))
    dropped = torch.rand(n, generator=generator(seed, "label drop", step)) < label_drop
    if isinstance(process, PlacesDrops):
        dropped = process.place_drops(dropped)
    if regularizer is None or regularizer.kind == "dispersive":
        return Draws(t, noise, dropped)
    times_plus = generator(seed, "times of the second view", step)
    if regularizer.noise == "independent":
        t_plus = process.draw_times(n, times_plus)
    else:
        t_plus = process.nearby_times(t, regularizer.gap, times_plus)
    noise_plus = torch.randn(*shape, generator=generator(seed, "noise of the second view", step))
    return Draws(t, noise, dropped, t_plus, noise_plus)


class Objective(nn.Module):
    """Loss of a training step; the module that DistributedDataParallel wraps.

    Holds no weights but the network's and, with REPA, the projector's. num_classes: the index of the null label.
    """

    def __init__(
        self,
        net: DiT,
        process: Process,
        regularizer: Regularizer | None,
        num_classes: int,
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.process = process
        self.regularizer = regularizer
        self.num_classes = num_classes
        self.alignment = alignment

    def forward(self, x: Tensor, y: Tensor, draws: Draws, features: Tensor | None = None) -> dict[str, Tensor]:
        """x (N, C, H, W), y (N,) → scalars "loss" (to differentiate), "denoising"; where there is a regulariser,
        "regularizer" (L_reg, before λ), and "alignment" in the same way; where the loss weighs errors, "squared_error"
        (before that, averaged over C H W). N must be a multiple of the group.

        features (N, T, E): those of the frozen encoder, where there is an alignment.
        """
        y = torch.where(draws.dropped, self.num_classes, y)
        blocks = self.regularizer.blocks if self.regularizer else ()
        taps = (*blocks, self.alignment.block) if self.alignment else blocks
        denoising, told, h = self._denoise(x, y, draws, taps)
        total, terms = denoising, {"denoising": denoising.detach(), **told}
        if self.regularizer:
            value = repel(self.views(h[: len(blocks)], x, y, draws), self.regularizer.potential)
            total, terms["regularizer"] = total + self.regularizer.weight * value, value.detach()
        if self.alignment:
            assert features is not None
            value = self.alignment(h[-1], features)
            total, terms["alignment"] = total + self.alignment.coefficient * value, value.detach()
        return {"loss": total, **terms}

    def _denoise(
        self, x: Tensor, y: Tensor, draws: Draws, taps: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """The process's loss, what else to log of it, and the tapped block outputs."""
        if not isinstance(self.process, WeighsErrors):
            per_sample, h = self.process.loss(self.net, x, y, draws.t, draws.noise, taps)
            return per_sample.mean(), {}, h
        error, h = self.process.squared_error(self.net, x, y, draws.t, draws.noise, taps)
        return self.process.weigh(error).mean(), {"squared_error": error.detach().mean() / x[0].numel()}, h

    def views(self, h: Sequence[Tensor], x: Tensor, y: Tensor, draws: Draws) -> Views:
        """The groups of each tapped block, h (N, T, D), and those of the second view where the regulariser has one."""
        assert self.regularizer
        group, blocks = self.regularizer.group, self.regularizer.blocks
        z = [_grouped(tapped, group) for tapped in h]
        if self.regularizer.kind == "dispersive":
            return [(view, None) for view in z]
        assert draws.t_plus is not None
        assert draws.noise_plus is not None
        x_plus = self.process.interpolate(x, draws.t_plus, draws.noise_plus)
        h_plus = self.net.features(x_plus, self.times(draws.t_plus), y, blocks)
        return [(view, _grouped(plus, group)) for view, plus in zip(z, h_plus, strict=True)]

    def times(self, t: Tensor) -> tuple[Tensor, ...]:
        """Times (N,) or (N, K) as the network is given them: one or two of (N,)."""
        return t.view(len(t), -1).unbind(1)[: self.net.num_times]


def repel(views: Views, potential: Potential) -> Tensor:
    """L_reg: the mean over tapped blocks of the dispersive loss of one view, or the contrastive one of two."""
    values = [disperse(z, potential) if plus is None else contrast(z, plus, potential) for z, plus in views]
    return torch.stack(values).mean()


def _grouped(h: Tensor, group: int) -> Tensor:
    """(N, T, D) → (N/group, group, T·D): pairs are formed inside contiguous blocks of `group` samples."""
    assert len(h) % group == 0, f"{len(h)} samples are no multiple of the group of {group}"
    return h.reshape(-1, group, h[0].numel())
