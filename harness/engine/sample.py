"""Sampling: image i from seed i, whatever the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.engine.build import build_net
from harness.engine.checkpoint import load_weights
from harness.engine.vae import to_uint8
from harness.method import consistency, ddpm, flow, imm, meanflow, shortcut
from harness.method.backbone import DiT
from harness.method.guidance import CountedNet, Interval, guided
from harness.method.randomness import generator
from harness.spec import EvalSpec, Process, SamplerSettings, TrainSpec

BATCH = 256
Decode = Callable[[Tensor], np.ndarray]  # samples (N, C, H, W) → images uint8 (N, C, H, W)
SAMPLE: dict[Process, Callable[..., Tensor]] = {
    "flow": flow.sample,
    "ddpm": ddpm.sample,
    "meanflow": lambda net, noise, y, method, intervals, step_noise: meanflow.sample(net, noise, y, intervals),
    "shortcut": lambda net, noise, y, method, intervals, step_noise: shortcut.sample(net, noise, y, intervals),
    "imm": lambda net, noise, y, method, intervals, step_noise: imm.sample(net, noise, y, intervals),
    "consistency": lambda net, noise, y, method, intervals, step_noise: consistency.sample(net, noise, y),
}
NOISE_LEVEL: dict[Process, Callable[[Tensor], Tensor]] = {
    "flow": flow.noise_level,
    "ddpm": ddpm.noise_level,
    "imm": imm.noise_level,
}


@dataclass(frozen=True)
class Samples:
    """Generated images, their labels, the network evaluations that each one took, and where."""

    images: np.ndarray  # uint8 (N, C, H, W)
    labels: np.ndarray  # int64 (N,)
    nfe: int
    device: str


def labels_of(first: int, count: int, classes: int, law: str) -> np.ndarray:
    """Return the labels of images first … first + count − 1: drawn from each image's seed ("random"), or in turn."""
    images = range(first, first + count)
    if law == "balanced":
        return np.array([i % classes for i in images])
    return np.array([int(torch.randint(classes, (), generator=generator(0, "label", i))) for i in images])


def draw_samples(
    train: TrainSpec, spec: EvalSpec, folder: Path, beat: Callable[[int], None], decode: Decode = to_uint8
) -> Samples:
    """Draw the images of a measurement from the weights kept in `folder`; `beat(n)` is called after n images."""
    net = build_net(train)
    net.load_state_dict(load_weights(folder, spec.step, "ema" if spec.evaluation.weights == "ema" else "model"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return sample(net, train, spec, device, beat, decode=decode)


def sample(
    net: DiT,
    train: TrainSpec,
    spec: EvalSpec,
    device: torch.device,
    beat: Callable[[int], None],
    batch: int = BATCH,
    decode: Decode = to_uint8,
) -> Samples:
    """Draw the images of a measurement from a network; image i comes from seed i. `decode` turns samples into bytes.

    Every run draws `BATCH` images at once, because the last bits of a matrix product depend on its size: another batch
    gives the same images but for a rare pixel that is rounded the other way.
    """
    data, settings = train.data, spec.sampler
    labels = labels_of(spec.first_image, spec.evaluation.samples, data.classes, spec.evaluation.labels)
    counted = CountedNet(net.to(device).eval())
    guide = guided(counted, settings.guidance, settings.guidance_channels, data.classes, _interval(train, settings))
    shape, parts = (data.channels, data.size, data.size), []
    for start in range(0, len(labels), batch):
        y = torch.from_numpy(labels[start : start + batch])
        noises = Noises(range(spec.first_image + start, spec.first_image + start + len(y)), shape, device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            x = SAMPLE[train.process](
                guide, noises.next(), y.to(device), settings.method, settings.intervals, noises.next
            )
        parts.append(decode(x))
        beat(start + len(y))
    return Samples(np.concatenate(parts), labels, round(counted.evaluations_per_image(len(labels))), device.type)


def _interval(train: TrainSpec, settings: SamplerSettings) -> Interval | None:
    """The noise levels at which there is guidance; None where that is everywhere."""
    if settings.guidance_from is None and settings.guidance_to is None:
        return None
    return Interval(NOISE_LEVEL[train.process], settings.guidance_from, settings.guidance_to)


class Noises:
    """The noise of some images, each from a stream of its own: what starts it, then what the SDE adds step by step."""

    def __init__(self, images: range, shape: tuple[int, ...], device: torch.device) -> None:
        self.streams = [generator(0, "sample", image) for image in images]
        self.shape, self.device = shape, device

    def next(self, step: int = 0) -> Tensor:
        """Return each image's next noise, (N, C, H, W); the streams know the step."""
        return torch.stack([torch.randn(self.shape, generator=stream) for stream in self.streams]).to(self.device)
