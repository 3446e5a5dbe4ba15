"""Wrappers around a network that are networks again: classifier-free guidance, and the count of evaluations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.method.processes.process import Denoiser, Tapped, Taps, Times


@dataclass(frozen=True)
class GuidanceInterval:
    """Noise levels at which there is guidance: above < σ ≤ up_to (Kynkäänniemi et al. 2024); None is no bound.

    σ is the noise's standard deviation per unit of the image's, as in theirs: (1 − t)/t at SiT's time t,
    √((1 − ᾱ_t)/ᾱ_t) at DiT's. So one interval means the same images in both families, whatever their times. An
    interval in times of a linear path is converted: REPA's t ≤ 0.7, where t = 1 is noise, is σ ≤ 0.7/0.3. Every
    evaluation is judged by its own time (REPA judges both of a Heun step by the first).
    noise_level: the process's own, times (N,) → σ (N,).
    """

    noise_level: Callable[[Tensor], Tensor]
    above: float | None = None
    up_to: float | None = None

    def __call__(self, t: Tensor) -> Tensor:
        """Tell for each time whether it lies inside: (N,) → (N,) bool."""
        sigma = self.noise_level(t)
        low, high = (-math.inf if self.above is None else self.above, math.inf if self.up_to is None else self.up_to)
        return (sigma > low) & (sigma <= high)


def guided(
    net: Denoiser, scale: float, channels: str, null_label: int, interval: GuidanceInterval | None = None
) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022): out = null + scale · (conditional − null), in one longer batch.

    channels: "three" guides the first three channels only, as the public DiT and SiT code does for its latents of four;
    "all" guides all C of the input's channels. The rest of the output is the conditional one. At scale 1 guidance does
    nothing, and the network itself comes back. Images outside of the interval have the conditional output, and are
    evaluated once. Taps are those of the conditional part.
    """
    assert channels in ("three", "all"), channels
    return net if scale == 1 else GuidedNet(net, scale, channels, null_label, interval)


@dataclass(frozen=True)
class GuidedNet:
    """What `guided` returns."""

    net: Denoiser
    scale: float
    channels: str
    null_label: int
    interval: GuidanceInterval | None

    def at(self, t: Tensor) -> Denoiser:
        """The network at a time t (1,) that all images share: guided everywhere, or not at all."""
        if self.interval is None or bool(self.interval(t)):
            return replace(self, interval=None)
        return self.net

    def __call__(self, x: Tensor, times: Times, y: Tensor, taps: Taps = ()) -> Tapped:
        """Each image by its own time: where there is an interval, a GPU is waited for to learn how many are inside."""
        n, c = x.shape[:2]
        assert self.channels == "all" or c >= 3, f"three-channel guidance of {c} channel(s)"
        inside = slice(None) if self.interval is None else self.interval(times[0])
        labels = torch.cat((y, torch.full_like(y[inside], self.null_label)))
        again = tuple(torch.cat((t, t[inside])) for t in times)
        both, h = self.net(torch.cat((x, x[inside])), again, labels, taps)
        k = 3 if self.channels == "three" else c
        out, conditional, null = both[:n].clone(), both[:n][inside, :k], both[n:, :k]
        out[inside, :k] = null + self.scale * (conditional - null)
        return out, [tapped[:n] for tapped in h]


class CountedNet:
    """Counts what passes through a network, so that NFE is counted and not computed.

    Wrap the innermost network: guidance around it then counts twice, because it evaluates twice.
    `images` is the number of images evaluated so far.
    """

    def __init__(self, net: Denoiser) -> None:
        self.net, self.images = net, 0

    def __call__(self, x: Tensor, times: Times, y: Tensor, taps: Taps = ()) -> Tapped:
        """The network's own answer; adds N to `images`."""
        self.images += len(x)
        return self.net(x, times, y, taps)

    def evaluations_per_image(self, samples: int) -> float:
        """NFE, when all that passed through were steps towards this many samples."""
        return self.images / samples
