"""A GPU that is not there: tensors without numbers, which no tensor on the CPU mixes with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from harness.method.processes import ddpm


class _PretendedGpu(FakeTensorMode):
    """What is computed on the CPU alone, as blocks that are drawn, has its numbers."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        if not any(isinstance(leaf, FakeTensor) or _is_gpu(leaf) for leaf in leaves):
            return function(*args, **(kwargs or {}))
        return super().__torch_dispatch__(function, types, args, kwargs)


def _is_gpu(leaf: object) -> bool:
    return isinstance(leaf, torch.device) and leaf.type == "cuda"


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let tensors on a GPU that is not there be without numbers."""
    with _PretendedGpu(allow_non_fake_inputs=True):
        yield
    ddpm._table.cache_clear()
