"""What a generative process is, what it may have beside that, and how all of them call a network."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Times = tuple[Tensor, ...]  # one or two of (N,), as a network is given them
Taps = Sequence[int]  # numbers of blocks, 1 for the first
Tapped = tuple[Tensor, list[Tensor]]  # what was computed, and the tapped block outputs [h (N, T, D) …]
StepNoise = Callable[[int], Tensor]  # the noise of a sampler's step, shaped as the images


class Denoiser(Protocol):
    """A network as processes call it: `backbone.DiT`, the same under guidance, or a closed form."""

    def __call__(self, x: Tensor, times: Times, y: Tensor, taps: Taps = ()) -> Tapped:
        """x (N, C, H, W), times one or two of (N,), y (N,) → output (N, C or more, H, W), tapped block outputs."""


class Process(Protocol):
    """A generative process, such as the module `flow`.

    Its times t are (N,), or (N, K): a network of one or two times is given the first columns. A dropped label is the
    null label; a process that must know which were dropped is told that label when it is made. A process may have a
    number `time_scale`, by which the network multiplies its times before it embeds them; without it that is 1.
    """

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Times for n samples, (N,) or (N, K)."""

    def nearby_times(self, t: Tensor, gap: float, generator: torch.Generator) -> Tensor:
        """Times of a second view under restricted noise: no further from t than `gap` of the way from data to noise."""

    def times_at(self, share: float) -> Tensor:
        """Times (1,) or (1, K) at a share u of noise, 0 < u < 1: its σ is u/(1 − u) per unit of the image.

        Of two times the second asks for what is nearest to a denoiser.
        """

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy images x_t, what the network is given."""

    def loss(self, net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
        """Denoising loss per sample, (N,), and the tapped block outputs."""


@runtime_checkable
class PlacesDrops(Protocol):
    """What a process may have beside `Process`: a say in which samples lose their labels."""

    def place_drops(self, dropped: Tensor) -> Tensor:
        """(N,) bool, drawn independently → (N,) bool, as many of them, moved to where the process has them."""


@runtime_checkable
class WeighsErrors(Protocol):
    """What a process has beside `Process` where its loss hides how large the error is; its `loss` is the error."""

    def weigh(self, error: Tensor) -> Tensor:
        """(N,) errors, summed over C H W → (N,) the losses that are trained."""


@runtime_checkable
class FollowsCurriculum(Protocol):
    """What a process may have beside `Process`: times whose law changes as training goes on."""

    def at_step(self, step: int) -> Process:
        """The process as it draws times at a training step, counted from 0."""


@runtime_checkable
class LearnsFromAverage(Protocol):
    """What a process may have beside `Process`: targets that come from the moving average of the network."""

    def with_average(self, average: Denoiser) -> Process:
        """The same process, with the network that makes its targets."""


@runtime_checkable
class SplitsBatch(Protocol):
    """What a process may have beside `Process`: samples that it treats in different ways, as their times say.

    How many those are is found where the times are drawn, on the CPU: a GPU would have to be waited for.
    """

    def split(self, t: Tensor) -> tuple[Tensor, ...]:
        """Positions of samples with times (N,) or (N, K), int64, one tensor for each way."""

    def with_split(self, split: tuple[Tensor, ...]) -> Process:
        """The same process for samples that are split so; `loss` splits those of any other itself."""


@runtime_checkable
class HasNoiseLevels(Protocol):
    """What a process may have beside `Process`: guidance in an interval of noise levels needs it."""

    def noise_level(self, t: Tensor) -> Tensor:
        """Times (N,) → σ (N,), the noise per unit of the image in x_t."""


def noise_level_of(process: Process) -> Callable[[Tensor], Tensor]:
    """Return the noise level of a process that has one."""
    assert isinstance(process, HasNoiseLevels), process
    return process.noise_level


@runtime_checkable
class DependsOnTime(Protocol):
    """A network that is another one at some times: one that is guided in an interval."""

    def at(self, t: Tensor) -> Denoiser:
        """The network at a time t (1,), on the CPU, that all images share."""


def network_at(net: Denoiser, t: Tensor) -> Denoiser:
    """The network at a time t (1,) that all images share, on the CPU: a GPU would have to be asked, and waited for."""
    return net.at(t) if isinstance(net, DependsOnTime) else net


def column(numbers: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """One number for each image, (N,) → (N, 1, 1, 1), to be multiplied with (N, C, H, W); in that precision, if any."""
    return numbers.to(dtype or numbers.dtype)[:, None, None, None]
