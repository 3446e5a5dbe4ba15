"""A whole training step with the dispersive loss against one without, in turn in one process.

The ratio is the median over pairs, so that what else the machine does falls on both. Latents are random: the time does
not depend on them. Run: python benchmarks/training_step.py
"""

import argparse
import statistics
import time

import torch

from harness.engine.data import ImageDataset
from harness.engine.train import Trainee
from harness.spec import Data, Model, Optimizer, Regularizer, TrainSpec


def spec(batch: int, precision: str, regularizer: Regularizer | None) -> TrainSpec:
    """Return SiT-S/2 on 32×32×4 latents, as the paper's smallest run."""
    return TrainSpec(
        process="flow",
        data=Data(name="random", channels=4, size=32, classes=1000, flip=False),
        model=Model(depth=12, width=384, heads=6, patch=2),
        regularizer=regularizer,
        optimizer=Optimizer(),
        batch=batch,
        label_drop=0.1,
        ema=0.9999,
        precision="bf16" if precision == "bf16" else "fp32",
        matmul="medium",
        seed=0,
    )


def random_data(count: int) -> ImageDataset:
    """Return random bytes in the shape of latents."""
    images = torch.randint(256, (count, 4, 32, 32), dtype=torch.uint8).numpy()
    return ImageDataset("random", "train", torch.arange(count).numpy() % 1000, 1000, "", images, False)


def seconds(trainee: Trainee, data: ImageDataset, step: int) -> float:
    """Return how long one step takes."""
    start = time.perf_counter()
    trainee.step(data, step)
    if trainee.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the two medians and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--pairs", type=int, default=15, help="interleaved repetitions")
    parser.add_argument("--group", type=int, default=16, help="samples among which pairs are formed")
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("medium")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loss = Regularizer(
        kind="dispersive", loss="infonce-l2", blocks=(3,), group=arguments.group, tau=0.5, **{"lambda": 0.5}
    )
    data = random_data(arguments.batch)
    without, with_loss = (Trainee(spec(arguments.batch, arguments.precision, r), device) for r in (None, loss))
    for step in range(2):
        seconds(without, data, step), seconds(with_loss, data, step)
    pairs = []
    for k in range(2, 2 + arguments.pairs):  # in alternating order, for the first of two steps may fare worse
        order = (without, with_loss) if k % 2 else (with_loss, without)
        took = {trainee: seconds(trainee, data, k) for trainee in order}
        pairs.append((took[without], took[with_loss]))
    plain, dispersive = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"SiT-S/2, batch {arguments.batch}, {arguments.precision}, {device}, {torch.get_num_threads()} thread(s)")
    print(f"median seconds a step: {plain:.3f} without the loss, {dispersive:.3f} with it")
    print(f"with / without, median of pairs: {ratio:.4f}")


if __name__ == "__main__":
    main()
