"""The moving average of a network's weights (EMA), whose samples are measured."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


class MovingAverage(Generic[Net]):
    """A network whose weights follow another's: average ← decay · average + (1 − decay) · weights.

    It starts at the initial weights, as in the public DiT code. `net` is on the device of the other one.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self.net, self.share = deepcopy(net), 1 - decay
        self.averages, self.weights = ([p.detach() for p in module.parameters()] for module in (self.net, net))

    def update(self) -> None:
        """Follow the weights as they are now, all at once and without waiting for them."""
        torch._foreach_lerp_(self.averages, self.weights, self.share)
