"""REPA (Yu et al. 2024, arXiv 2410.06940): a block's tokens, projected, point where a frozen encoder's features do.

The encoder sees the clean image and the network the noisy one; only network and projector learn. Letters: N samples,
T tokens, D width of the network, E width of the encoder's features.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from harness.method.randomness import generator


class Alignment(nn.Module):
    """The projector, and λ times minus the cosine similarity.

    width: D. hidden: width of the projector's two hidden layers. features: E. block: 1-based number of the block.
    coefficient: λ of the total loss. The projector is needed in training only.
    """

    def __init__(self, width: int, hidden: int, features: int, block: int, coefficient: float) -> None:
        super().__init__()
        self.block = block
        self.coefficient = coefficient
        self.projector = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, features)
        )

    def forward(self, h: Tensor, target: Tensor) -> Tensor:
        """Block outputs h (N, T, D), features (N, T, E) → scalar in [−1, 1], before λ (Yu et al., eq. 8)."""
        z = self.projector(h)
        assert z.shape == target.shape, (z.shape, target.shape)
        return -F.cosine_similarity(z.float(), target.float(), dim=-1).mean()

    def initialise(self, seed: int) -> "Alignment":
        """Draw the projector's weights as REPA's code does, xavier-uniform with zero bias; from a stream of its own,
        so that the network's weights are those of a training without it. Returns the module itself."""
        g = generator(seed, "projector", 0)
        for weight in self.projector.parameters():
            if weight.dim() == 1:
                nn.init.zeros_(weight)
            else:
                nn.init.xavier_uniform_(weight, generator=g)
        return self
