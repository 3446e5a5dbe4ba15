"""The samplers as they are called, each (net, noise (N, C, H, W), y (N,), intervals, step_noise, process) → samples.

step_noise(k): noise of step k, shaped as the images, image i's from its own seed: whatever is random comes from there.
process: the run's own. Guidance is in `net` already.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from harness.method.processes import consistency, ddpm, flow, imm, meanflow, shortcut
from harness.method.processes.process import Denoiser, Process, StepNoise

Sampler = Callable[[Denoiser, Tensor, Tensor, int, StepNoise, Process], Tensor]


def by_method(
    module: Any, method: str, net: Denoiser, noise: Tensor, y: Tensor, intervals: int, step_noise: StepNoise,
    process: Process,
) -> Tensor:  # fmt: skip
    """One of a module's several."""
    samples: Tensor = module.sample(net, noise, y, method, intervals, step_noise)
    return samples


def in_steps(
    module: Any, net: Denoiser, noise: Tensor, y: Tensor, intervals: int, step_noise: StepNoise, process: Process
) -> Tensor:
    """A module's only one, which draws nothing."""
    samples: Tensor = module.sample(net, noise, y, intervals)
    return samples


def one_step(
    net: Denoiser, noise: Tensor, y: Tensor, intervals: int, step_noise: StepNoise, process: Process
) -> Tensor:
    """iCT's, of one evaluation."""
    return consistency.sample(net, noise, y)


euler, heun, euler_maruyama = (partial(by_method, flow, name) for name in ("euler", "heun", "euler-maruyama"))
ancestral, ddim = (partial(by_method, ddpm, name) for name in ("ancestral", "ddim"))
average_velocity, small_steps, pushforward = (partial(in_steps, module) for module in (meanflow, shortcut, imm))
