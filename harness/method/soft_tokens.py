"""Soft tokens: learned tokens that stand before those of the patches in the first blocks of a frozen network."""

from typing import Self

import torch
from torch import Tensor, nn

from harness.method.randomness import generator

BUCKETS = 100  # of the times, from 0 to 1
SPREAD = 0.02  # standard deviation that they begin with


class SoftTokens(nn.Module):
    """Tokens of each class, and of each hundredth of the times, for each of the first blocks; they are added up.

    classes: labels 0 … classes − 1; index `classes`, the null label, has none, and what it is given to is the frozen
    network itself. blocks: how many have tokens. count: of them before each block (SoftREPA, arXiv 2503.08250, has
    four before each of the first five blocks, for any text; tokens of a class are our reading).
    """

    def __init__(self, classes: int, width: int, blocks: int, count: int) -> None:
        super().__init__()
        self.classes, self.blocks, self.count = classes, blocks, count
        self.of_class = nn.Parameter(torch.empty(blocks, classes, count, width))
        self.of_time = nn.Parameter(torch.empty(blocks, BUCKETS, count, width))

    def initialise(self, seed: int) -> Self:
        """Draw them normal(0.02), from a stream of their own. Returns the module itself."""
        for number, weight in enumerate((self.of_class, self.of_time)):
            nn.init.normal_(weight, std=SPREAD, generator=generator(seed, "soft tokens", number))
        return self

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Times (N,) in [0, 1], labels (N,) → the tokens before each block, (blocks, N, count, D)."""
        bucket = (t * BUCKETS).long().clamp(0, BUCKETS - 1)
        return self.of_class[:, y.clamp(max=self.classes - 1)] + self.of_time[:, bucket]

    def lead(self, block: nn.Module, tokens: Tensor, h: Tensor, c: Tensor, absent: Tensor | None) -> Tensor:
        """The output (N, T, D) of a block that is given tokens (N, count, D) before h (N, T, D), and then cut off.

        absent: (N,) bool, the images without any; None where all have them.
        """
        out: Tensor = block(torch.cat((tokens.to(h.dtype), h), 1), c)[:, self.count :]
        return out if absent is None else torch.where(absent[:, None, None], block(h, c), out)

    def absent(self, y: Tensor) -> Tensor | None:
        """Which labels (N,) are the null label; None where none is, for which a GPU is waited for."""
        null = y == self.classes
        return null if bool(null.any()) else None
