"""iREPA (arXiv 2512.10794, ICLR 2026): REPA whose projector and whose targets keep what varies over the image.

Names of its authors' code: github.com/End2End-Diffusion/iREPA.
"""

import torch
from torch import Tensor, nn

EPSILON = 1e-6  # beside the standard deviation


class TokenConvolution(nn.Conv2d):
    """The projector: one convolution on the grid of tokens, zeros around it; kernel: its odd height and width."""

    def __init__(self, width: int, features: int, kernel: int) -> None:
        super().__init__(width, features, kernel, padding=kernel // 2)

    def forward(self, h: Tensor) -> Tensor:
        """(N, T, D) → (N, T, E); tokens are row by row of a square grid."""
        side = round(h.shape[1] ** 0.5)
        grid = h.mT.contiguous().unflatten(2, (side, side))  # (N, D, side, side)
        return super().forward(grid).flatten(2).mT


def normalize_tokens(features: Tensor, alpha: float) -> Tensor:
    """(f − α mean)/(std + 1e-6) of each sample and channel, over its tokens, with n − 1: (N, T, E) → (N, T, E)."""
    std, mean = torch.std_mean(features, dim=1, keepdim=True)
    return (features - alpha * mean) / (std + EPSILON)
