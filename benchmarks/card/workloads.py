"""What the parts train and time: specs of the paper's sizes, random latents, and a clock that waits for the GPU."""

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from harness.config.settings.data_settings import Data
from harness.config.settings.process_settings import MeanFlowSettings, MomentMatchingSettings, ShortcutSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Optimizer
from harness.config.spec import Consistency, Model, Regularizer, TrainSpec
from harness.data.datasets import ImageDataset
from harness.engine.allocator import release_memory
from harness.engine.distributed import ALONE, World
from harness.engine.train import Trainer
from harness.method.precision import matmul_precision

SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}  # depth, width, heads
ARITHMETIC: tuple[tuple[str, Literal["fp32", "bf16"], str], ...] = (  # its name, the network's, that of matrices
    ("fp32", "fp32", "highest"),
    ("TF32", "fp32", "high"),
    ("bf16", "bf16", "highest"),
)
EAGER, COMPILED = Resources(), Resources(compile=True)
SMALL = Model(depth=4, width=128, heads=4, patch=2)  # what is compared bit by bit, and not timed
TINY = Model(depth=2, width=64, heads=4, patch=2)  # all there is in the rehearsal


@dataclass(frozen=True)
class Card:
    """What the parts are told. faulty: put a fault into this part, which must then be seen."""

    device: torch.device
    tiny: bool
    out: Path
    deadline: float  # of time.monotonic()
    faulty: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether there is a card; else this is the rehearsal."""
        return self.device.type == "cuda"

    @property
    def batch(self) -> int:
        """Images of a timed step: the paper's batch."""
        return 16 if self.tiny else 256

    @property
    def side(self) -> int:
        """Height and width of their latents."""
        return 8 if self.tiny else 32

    @property
    def left(self) -> float:
        """Seconds that are left to all parts."""
        return self.deadline - time.monotonic()

    def wait(self) -> None:
        """Wait until the GPU has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def forget(self) -> None:
        """Give back the memory of what was timed before, and begin to measure the peak anew."""
        release_memory()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float | None:
        """GiB of the card that tensors have taken at once since `forget`; None on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else None

    def seconds(self, work: Callable[[], object], calls: int, warm_up: int = 1) -> float:
        """Median seconds of a call, the GPU waited for after each."""
        for _ in range(warm_up):
            work()
        taken = []
        for _ in range(calls):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def streamed(self, work: Callable[[], object], calls: int, warm_up: int) -> float:
        """Seconds of a call while the host runs ahead of the GPU, as a training's does."""
        for _ in range(warm_up):
            work()
        self.wait()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        self.wait()
        return (time.perf_counter() - start) / calls

    def sized(self, size: str) -> Model:
        """Return one of the paper's networks, of patches of two."""
        depth, width, heads = SIZES[size]
        return TINY if self.tiny else Model(depth=depth, width=width, heads=heads, patch=2)


FAMILY: dict[str, dict[str, Any]] = {
    "flow": {},
    "ddpm": {},
    "meanflow": {"meanflow": MeanFlowSettings()},
    "shortcut": {"shortcut": ShortcutSettings(guidance=1.5)},
    "imm": {"imm": MomentMatchingSettings()},
    "consistency": {"consistency": Consistency(steps=100, finest=20)},
}
NAMES: dict[str, str] = {
    "flow": "SiT", "ddpm": "DiT", "meanflow": "MeanFlow", "shortcut": "Shortcut", "imm": "IMM", "consistency": "iCT",
}  # fmt: skip


def spec(
    model: Model,
    batch: int,
    process: str = "flow",
    kind: Literal["dispersive", "contrastive"] | None = "dispersive",
    precision: Literal["fp32", "bf16"] = "bf16",
    side: int = 32,
    group: int = 16,
    **others: Any,
) -> TrainSpec:
    """Return a training on latents of four channels; kind: of the loss on intermediate representations, by groups."""
    noise: dict[str, Any] = {"noise": "independent"} if kind == "contrastive" else {}
    common: dict[str, Any] = {"loss": "infonce-l2", "blocks": (max(1, model.depth // 4),), "tau": 0.5, "lambda": 0.5}
    values: dict[str, Any] = {
        "process": process,
        "data": Data(name="random", channels=4, size=side, classes=1000, flip=False),
        "model": model,
        "regularizer": Regularizer(kind=kind, group=group, **common, **noise) if kind else None,
        "optimizer": Optimizer(),
        "batch": batch,
        "label_drop": 0.1,
        "ema": 0.9999,
        "precision": precision,
        "matmul": "highest",
        "seed": 0,
    }
    return TrainSpec(**values | FAMILY[process] | others)


def small(card: Card, **others: Any) -> TrainSpec:
    """Return a training small enough for a CPU to follow."""
    batch = 16 if card.tiny else 32  # whose quarter is a micro-batch of two processes
    return spec(TINY if card.tiny else SMALL, batch, side=8, group=batch // 4, **others)


def random_images(count: int, side: int) -> ImageDataset:
    """Return random bytes in the shape of latents."""
    images = np.random.default_rng(0).integers(0, 256, (count, 4, side, side), dtype=np.uint8)
    return ImageDataset("random", "train", np.arange(count) % 1000, 1000, "", images, False)


def trainer(
    train: TrainSpec, device: torch.device, resources: Resources = EAGER, world: World = ALONE, images: int = 1024
) -> Trainer:
    """Return the project's own trainer on random images."""
    return Trainer(train, random_images(images, train.data.size), device, resources, world)


def losses(made: Trainer, steps: range) -> list[float]:
    """Take some steps, and return the loss of each."""
    with matmul_precision(made.spec.matmul):
        return [float(made.step(k)["loss"]) for k in steps]


def worst(expected: list[float], measured: list[float]) -> float:
    """Largest relative difference of two curves of one length."""
    pairs = zip(expected, measured, strict=True)
    return max(abs(a - b) / max(abs(a), 1e-6) for a, b in pairs)


def relative(measured: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative ℓ2 difference of two tensors."""
    a, b = measured.double().cpu(), expected.double().cpu()
    return float((a - b).norm() / b.norm())


def commit() -> str:
    """Return the commit that is measured; "unknown" where there is no git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return answer.stdout.strip() or "unknown"
