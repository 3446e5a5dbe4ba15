"""Small trainings: made-up images, networks whose every block acts, and processes that train as one world."""

import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from support.forked import forkserver
from support.specs import OWN
from torch import Tensor, nn

from harness.config.spec import EvalSpec, TrainSpec
from harness.data.datasets import ImageDataset
from harness.engine.distributed import ALONE, World, joined
from harness.engine.sample import Sampler
from harness.engine.sample_cache import SampleRecord
from harness.engine.train import Trainer
from harness.method.backbone import DiT
from harness.method.randomness import generator
from harness.networks.build import build_net
from harness.networks.encoder import FrozenEncoder
from harness.networks.supervised import Recipe, build
from harness.process_group import ProcessPlace

CPU = torch.device("cpu")


def nothing(_: object) -> None:
    """Report no progress."""


def made_up_images(count: int = 20, channels: int = 1, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, size, size), np.uint8)


def make_dataset(count: int = 20) -> ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 1, 8, 8), np.uint8)
    return ImageDataset("made up", "train", rng.integers(0, 10, count), 10, "", images, flip=True)


def make_encoder(dataset: ImageDataset, **record: object) -> FrozenEncoder:
    """Return an encoder that has learned nothing, the same in every process."""
    torch.manual_seed(0)
    network = build(Recipe(**OWN.model_dump()), dataset)
    return FrozenEncoder(network, OWN.side, (0.5,), (0.5,), "bilinear", grid=2, record=record)


def stir(net: nn.Module, seed: int = 0) -> None:
    """Move weights away from the initial ones, which make every block the identity and the output zero."""
    for name, weight in net.named_parameters():
        if weight.requires_grad:
            weight.data.normal_(std=0.15, generator=generator(seed, name, 0))


def stirred(spec: TrainSpec, seed: int = 0) -> DiT:
    net = build_net(spec)
    stir(net, seed)
    return net


def make_trainer(spec: TrainSpec, dataset: ImageDataset) -> Trainer:
    trainer = Trainer(spec, dataset, CPU)
    stir(trainer.net)
    trainer.ema.load_state_dict(trainer.net.state_dict())
    return trainer


class SamplesInMemory:
    """What sampling adds its images to, as a `SampleFile`, but in memory."""

    def __init__(self) -> None:
        self.record, self.tiles = SampleRecord(0), []

    def begin(self) -> int:
        return 0

    def save(self) -> None:
        pass

    def add(self, tiles: list[np.ndarray], nfe: int) -> None:
        self.record, self.tiles = SampleRecord(0, nfe=nfe), self.tiles + tiles

    def images(self, first: int, count: int) -> np.ndarray:
        return np.concatenate(self.tiles)[first : first + count]


def sample(net: nn.Module, train: TrainSpec, spec: EvalSpec, on_progress=nothing, world: World = ALONE):
    """Draw the images of a measurement from a network, into memory."""
    return Sampler(train, spec, world, on_progress=on_progress).draw_from(net, SamplesInMemory())


class Calm(nn.Module):
    """A DDPM network that nearly knows the noise: one that knows nothing ends in pixels all black and white."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, times: tuple[Tensor, ...], y: Tensor, taps: tuple[int, ...] = ()):
        out, h = self.net(x, times, y, taps)
        return torch.cat((x + 0.003 * out[:, :1], out[:, 1:]), dim=1), h


def member(place: ProcessPlace, act: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    with joined(place) as world:
        act(*arguments, world)


def start(size: int, folder: Path, act: Callable[..., None], *arguments: object) -> list[BaseProcess]:
    """Start processes that do the same thing as one world."""
    folder.mkdir(parents=True, exist_ok=True)
    meeting = (folder / f"rendezvous-{len(list(folder.glob('rendezvous-*')))}").absolute().as_uri()
    places = [ProcessPlace(rank, size, rank, meeting) for rank in range(size)]
    new = forkserver().Process
    processes: list[BaseProcess] = [new(target=member, args=(place, act, arguments)) for place in places]
    for process in processes:
        process.start()
    return processes


def end(processes: list[BaseProcess], seconds: float = 300) -> list[int | None]:
    """Wait for processes and return their exit codes; None for one that hangs, which is killed."""
    deadline = time.monotonic() + seconds
    codes = []
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        process.kill()
    return codes
