"""Wrappers around a network that are networks again: classifier-free guidance, and the count of evaluations.

A network is any callable (x, times, y, taps) → (output, [h …]), as `backbone.DiT.forward`.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """x (N, C, H, W), times of (N,), y (N,), taps → output (N, C or more, H, W), block outputs [(N, T, D) …]."""

    def __call__(
        self, x: Tensor, times: tuple[Tensor, ...], y: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """(output, tapped block outputs)."""
        ...


def guided(net: Network, scale: float, channels: str, null_label: int) -> Network:
    """Classifier-free guidance (Ho & Salimans 2022): out = null + scale · (conditional − null), in one doubled batch.

    channels: "three" guides the first three channels only, as the public DiT and SiT code does for its latents of four;
    "all" guides all C of the input's channels. The rest of the output is the conditional one. At scale 1 guidance does
    nothing, and the network itself comes back. Taps are those of the conditional half.
    """
    assert channels in ("three", "all"), channels
    if scale == 1:
        return net

    def guided_net(
        x: Tensor, times: tuple[Tensor, ...], y: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        n, c = x.shape[:2]
        assert channels == "all" or c >= 3, f"three-channel guidance of {c} channel(s)"
        both = torch.cat((y, torch.full_like(y, null_label)))
        out, h = net(torch.cat((x, x)), tuple(torch.cat((t, t)) for t in times), both, taps)
        conditional, null = out.chunk(2)
        k = 3 if channels == "three" else c
        mixed = null[:, :k] + scale * (conditional[:, :k] - null[:, :k])
        return torch.cat((mixed, conditional[:, k:]), dim=1), [tapped[:n] for tapped in h]

    return guided_net


class CountedNet:
    """Counts what passes through a network, so that NFE is counted and not computed.

    Wrap the innermost network: guidance around it then counts twice, because it evaluates twice.
    `images` is the number of images evaluated so far.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.images = 0

    def __call__(
        self, x: Tensor, times: tuple[Tensor, ...], y: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """The network's own answer; adds N to `images`."""
        self.images += len(x)
        return self.net(x, times, y, taps)

    def evaluations_per_image(self, samples: int) -> float:
        """NFE, when all that passed through were steps towards this many samples."""
        return self.images / samples
