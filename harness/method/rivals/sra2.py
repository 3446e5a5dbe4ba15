"""SRA 2 (arXiv 2601.17830): a block's tokens, through a projector, become the clean images or latents themselves.

The target is what is already there: no encoder, no teacher, no pass, nothing drawn. The projector is thrown away after
training.
"""

from itertools import pairwise
from typing import Self

from torch import Tensor, nn

from harness.method.terms import ConfiguredTerm, Sizes, StepView, draw_weights, smooth_distance


class LatentAlignment(ConfiguredTerm):
    """Each token gives the patch of the image that the network's head gives there."""

    floor = 0.0

    def build(self, sizes: Sizes) -> None:
        """Make the projector P."""
        self.patch = sizes.patch
        hidden = [self.settings.ratio * sizes.width] * (self.settings.layers - 1)
        widths = pairwise((sizes.width, *hidden, sizes.channels * sizes.patch**2))
        layers = [layer for before, after in widths for layer in (nn.Linear(before, after), nn.SiLU())]
        self.projector = nn.Sequential(*layers[:-1])

    def initialise(self, seed: int) -> Self:
        """Xavier-uniform with zero bias, as SRA's head."""
        draw_weights(self.projector, self.stream("projector", seed, 0))
        return self

    def forward(self, view: StepView) -> Tensor:
        """The mean of smooth-ℓ1 over all elements of all samples."""
        (taught,) = self.blocks
        return smooth_distance(self.projector(view.h[taught]), patches(view.x, self.patch))


def patches(x: Tensor, size: int) -> Tensor:
    """(N, C, H, W) → (N, T, P·P·C): each patch by row, column and channel, as the network's head has it."""
    n, c, height, width = x.shape
    cut = x.reshape(n, c, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, size * size * c)
