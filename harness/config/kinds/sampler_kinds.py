"""The samplers, by what `sampler.method` calls them: which families each is of, and what an image costs."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from harness.config.kinds.process_kinds import PROCESSES
from harness.plugins import Registry


def once(intervals: int) -> int:
    """One evaluation of the network for each interval."""
    return intervals


def twice(intervals: int) -> int:
    """Two of them, as Heun's method."""
    return 2 * intervals


def once_and_last(intervals: int) -> int:
    """One more at the end."""
    return intervals + 1


@dataclass(frozen=True)
class SamplerKind:
    """An entry of the registry.

    sample: (net, noise, y, intervals, step_noise, process) → samples, as `method/processes/samplers.py` says; or
    "module:name" of it. families: that it suits, beside those that name it. evaluations: of the network for an image
    without guidance, by the number of intervals. intervals: those that are legal, None for all; steps: these in words.
    """

    sample: Callable[..., Any] | str
    families: tuple[str, ...] = ()
    evaluations: Callable[[int], int] = once
    intervals: Collection[int] | None = None
    steps: str = ""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return samples."""
        sample: Callable[..., Any] = resolve_name(self.sample) if isinstance(self.sample, str) else self.sample
        return sample(*arguments, **named)


_MODULE = "harness.method.processes.samplers:"
BUILT_IN = {
    "euler": SamplerKind(f"{_MODULE}euler"),
    "heun": SamplerKind(f"{_MODULE}heun", evaluations=twice),
    "euler-maruyama": SamplerKind(f"{_MODULE}euler_maruyama", evaluations=once_and_last),
    "ancestral": SamplerKind(f"{_MODULE}ancestral", intervals=range(2, 1001), steps="2 to 1000 steps"),
    "ddim": SamplerKind(f"{_MODULE}ddim", intervals=range(2, 1001), steps="2 to 1000 steps"),
    "average-velocity": SamplerKind(f"{_MODULE}average_velocity"),
    "shortcut": SamplerKind(
        f"{_MODULE}small_steps", intervals=[2**k for k in range(8)], steps="1, 2, 4, 8, 16, 32, 64 or 128 steps"
    ),
    "pushforward": SamplerKind(f"{_MODULE}pushforward"),
    "one-step": SamplerKind(f"{_MODULE}one_step", intervals=[1], steps="1 step"),
}
SAMPLERS: Registry[SamplerKind] = Registry("samplers", "sampler", BUILT_IN)


def suits(method: str, family: str) -> bool:
    """Tell whether a family can be sampled so."""
    return method in SAMPLERS and (method in PROCESSES[family].samplers or family in SAMPLERS[method].families)


def samplers_of(family: str) -> Iterator[str]:
    """Yield the samplers that suit a family."""
    return (method for method in SAMPLERS if suits(method, family))
