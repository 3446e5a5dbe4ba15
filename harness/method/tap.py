"""What a module inside any network returns, kept while a `with` lasts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

WRAPPERS = ("module", "_orig_mod")  # what DistributedDataParallel and torch.compile call the network in them
Choice = int | str | None


class TappedOutputs(Mapping[str, Tensor]):
    """Module name → what it returned when it was called last."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._outputs: dict[str, Tensor | None] = dict.fromkeys(names)
        self._with_gradients: dict[str, bool] = {}

    def __getitem__(self, name: str) -> Tensor:
        """The output, with its gradient.

        Raises:
            KeyError: a name that is not tapped.
            RuntimeError: the module has not been called; or it was called without gradients, which are wanted now.
        """
        output = self._outputs[name]
        if output is None:
            raise RuntimeError(
                f"{name} has not been called since it was tapped; a compiled model wants one tap, before its first call"
            )
        if torch.is_grad_enabled() and not self._with_gradients[name]:
            raise RuntimeError(
                f"{name} was called without gradients, as inside a reentrant checkpoint: checkpoint with "
                "use_reentrant=False; where no gradient is wanted, read it under torch.no_grad()"
            )
        return output

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def keep(self, name: str, output: Tensor) -> None:
        """Replace what the module returned before."""
        self._outputs[name], self._with_gradients[name] = output, torch.is_grad_enabled()


@contextmanager
def tap(model: nn.Module, *names: str, output: Choice = None) -> Iterator[TappedOutputs]:
    """Collect what modules of a network return: `with tap(model, "blocks.2") as features: model(x)`.

    names: as `model.named_modules()` has them, without the "module." of DistributedDataParallel or the "_orig_mod." of
    torch.compile. output: the index or key to take of a module that returns a tuple, list or mapping. The features
    are tensors with their graph, one a name, of the latest call; they stay readable after the `with`, which takes its
    hooks off the network again, also when its body fails. Modules that are called again in the backward pass, for
    activation checkpointing, are not collected again.

    Raises:
        ValueError: no names, or a module that the network does not have.
        TypeError: (in the network's call) a module that returns no tensor, and `output` chooses none.
    """
    if not names:
        raise ValueError("tap which modules? Give their names, as model.named_modules() has them")
    modules = {name: _find(model, name) for name in names}
    features, tracker = TappedOutputs(names), ModuleTracker()
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(_keeper(features, name, output, tracker)).remove)
        yield features


def _keeper(features: TappedOutputs, name: str, choice: Choice, tracker: ModuleTracker) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or not tracker.is_bw:
            features.keep(name, _chosen(name, output, choice))

    return keep


def _chosen(name: str, output: Any, choice: Choice) -> Tensor:
    if isinstance(output, Tensor):
        return output
    try:
        chosen = output[choice]
    except (TypeError, KeyError, IndexError):
        chosen = None
    if isinstance(chosen, Tensor):
        return chosen
    parts = output.items() if isinstance(output, Mapping) else enumerate(output) if isinstance(output, Sequence) else ()
    inside = ", ".join(f"{key!r}: {type(value).__name__}" for key, value in parts)
    raise TypeError(f"{name} returns a {type(output).__name__} ({inside}): choose a tensor of it by output=…")


def _unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """The network and, where it wraps another, what is inside."""
    inner: nn.Module | None = model
    while inner is not None:
        yield inner
        children = dict(inner.named_children())
        inner = next((children[wrapper] for wrapper in WRAPPERS if wrapper in children), None)


def _find(model: nn.Module, name: str) -> nn.Module:
    for network in _unwrapped(model):
        modules = dict(network.named_modules(remove_duplicate=False))
        if name in modules:
            return modules[name]
    parent = name
    while parent not in modules:
        parent = parent.rpartition(".")[0]
    children = ", ".join(child for child, _ in modules[parent].named_children()) or "none"
    raise ValueError(f"no module {name!r} in {type(network).__name__}: {parent or 'it'} has {children}")
