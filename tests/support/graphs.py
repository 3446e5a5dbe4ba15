"""A backend of torch.compile that computes eagerly, and counts what it was given and what is called."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CountedGraphs:
    """count: graphs that were compiled. calls: how often they were called. used: what each call's graph computes."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = self.calls = 0
        self.used: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., object]:
        self.count += 1
        shapes = [tuple(given.shape) for given in inputs if isinstance(given, Tensor)]
        text = f"{graph.code}\n{shapes}"

        def run(*arguments: object) -> object:
            self.calls += 1
            self.used.append(text)
            return graph.forward(*arguments)

        return run
