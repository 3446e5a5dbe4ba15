"""One training on one process, on several, or in micro-batches: the same run; images from any process: the same pixels.

Processes are spawned once for all families and arms: each of them takes seconds to import torch.
"""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.engine import checkpoint
from harness.engine.build import build_net
from harness.engine.data import ImageDataset
from harness.engine.distributed import ALONE, World, joined
from harness.engine.sample import sample
from harness.engine.train import train
from harness.files import read_jsonl
from harness.place import Place
from harness.spec import (
    Data,
    EvalSpec,
    EvaluationSettings,
    MeanFlowSettings,
    Model,
    Optimizer,
    Regularizer,
    Resources,
    SamplerSettings,
    TrainSpec,
)

CPU = torch.device("cpu")
STEPS = 8
SAMPLERS = {"flow": "heun", "ddpm": "ancestral", "meanflow": "average-velocity"}
ARMS: dict[str, Regularizer | None] = {
    "baseline": None,
    **{
        kind: Regularizer(kind=kind, loss="infonce-l2", lambda_=0.5, blocks=(1,), group=4, tau=0.5, noise=noise)
        for kind, noise in (("dispersive", None), ("contrastive", "independent"))
    },
}
RUNS = [(process, arm) for process in SAMPLERS for arm in ARMS]


def make_spec(process: str, arm: str) -> TrainSpec:
    return TrainSpec(
        process=process,
        data=Data(name="made up", channels=1, size=8, classes=10, flip=True),
        model=Model(depth=2, width=16, heads=2, patch=4),
        regularizer=ARMS[arm],
        meanflow=MeanFlowSettings(omega=1.0, kappa=0.5) if process == "meanflow" else None,
        optimizer=Optimizer(learning_rate=1e-3),
        batch=16,
        label_drop=0.3,
        ema=0.8,
        precision="fp32",
        matmul="highest",
        seed=3,
    )


def make_dataset() -> ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 1, 8, 8), np.uint8)
    return ImageDataset("made up", "train", rng.integers(0, 10, 50), 10, "", images, flip=True)


def train_all(folder: Path, resources: Resources, world: World = ALONE) -> None:
    for process, arm in RUNS:
        here = folder / process / arm
        train(
            make_spec(process, arm), make_dataset(), here, here / "log", {STEPS}, resources, lambda _: None, world
        )


def draw_all(folder: Path, world: World = ALONE) -> None:
    for process, method in SAMPLERS.items():
        drawn = draw(process, method, range(30, 94), world)
        if drawn is not None:
            np.save(folder / f"{process}.npy", drawn)


def draw(process: str, method: str, images: range, world: World = ALONE) -> np.ndarray | None:
    spec = make_spec(process, "baseline")
    net = build_net(spec).initialise(0)
    for weight in net.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    sampler = SamplerSettings(method=method, intervals=3)
    evaluation = EvalSpec(step=0, sampler=sampler, evaluation=EvaluationSettings(samples=64), first_image=0)
    drawn = sample(net, spec, evaluation, images, CPU, lambda _: None, world)
    return None if drawn is None else drawn.images


def member(place: Place, act: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    with joined(place) as world:
        act(*arguments, world)


def together(size: int, folder: Path, act: Callable[..., None], *arguments: object) -> None:
    """Have processes do the same thing as one world."""
    folder.mkdir(parents=True, exist_ok=True)
    meeting = (folder / "rendezvous").absolute().as_uri()
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=member, args=(Place(rank, size, rank, meeting), act, arguments)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * size


def train_and_draw(folder: Path, resources: Resources, world: World) -> None:
    train_all(folder, resources, world)
    draw_all(folder, world)


def outcome(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    lines = [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_jsonl(folder / "log")]
    return checkpoint.load_weights(folder, STEPS, "model"), lines


def worst(one: Path, other: Path) -> tuple[float, float]:
    """Return the largest differences of weights and of log entries between two runs."""
    (weights, log), (weights2, log2) = outcome(one), outcome(other)
    assert [line.keys() for line in log] == [line.keys() for line in log2]
    assert len(log) == STEPS
    differences = [abs(a[k] - b[k]) for a, b in zip(log, log2, strict=True) for k in a]
    return max(float((weights[n] - weights2[n]).abs().max()) for n in weights), max(differences)


EVERY_STEP = Resources(log_every=1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train_all(folder, EVERY_STEP)
    return folder


def test_micro(alone, tmp_path):
    train_all(tmp_path, Resources(log_every=1, micro_batch=4))
    for process, arm in RUNS:
        print(process, arm, worst(alone / process / arm, tmp_path / process / arm))


def test_two(alone, tmp_path):
    together(2, tmp_path, train_and_draw, tmp_path, EVERY_STEP)
    for process, arm in RUNS:
        print(process, arm, worst(alone / process / arm, tmp_path / process / arm))
    for process, method in SAMPLERS.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{process}.npy"), draw(process, method, range(30, 94)))
