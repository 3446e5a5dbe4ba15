"""A training step of SiT: ours in float32 and bf16, with and without the loss, and MeanFlow's, against a plain one.

`plain.py` is the plain one. Latents are random: the time does not depend on them. Then the relative error of one
step's gradient against float64, and the floating-point operations a second against those of a matrix product measured
in the same run. Run: python benchmarks/training_step.py --model B --batch 16
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from plain import BLOCK, LABEL_DROP, PlainTraining
from side_by_side import Arm, compare, memory_as_torch_finds_it, print_table
from torch.utils.flop_counter import FlopCounterMode

from harness.config.settings.data_settings import Data
from harness.config.settings.process_settings import MeanFlowSettings
from harness.config.settings.resources import Resources
from harness.config.settings.run_settings import Optimizer
from harness.config.spec import Model, Regularizer, TrainSpec
from harness.data.datasets import ImageDataset
from harness.engine.allocator import keep_freed_memory
from harness.engine.train import Trainer
from harness.method.objective import draw
from harness.method.precision import matmul_precision
from harness.networks.build import build_objective

Precision = Literal["fp32", "bf16"]
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}  # depth, width, heads
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLAIN, FP32, BF16 = "plain, fp32, with the loss", "ours, fp32, with the loss", "ours, bf16, with the loss"
COMPILED = "ours, bf16, compiled, with the loss"


def spec(size: str, batch: int, precision: Precision, dispersive: bool, meanflow: bool = False) -> TrainSpec:
    """Return a size of the paper on 32×32×4 latents."""
    depth, width, heads = SIZES[size]
    loss = Regularizer(
        kind="dispersive", loss="infonce-l2", blocks=(BLOCK,), group=min(16, batch), tau=0.5, **{"lambda": 0.5}
    )
    return TrainSpec(
        process="meanflow" if meanflow else "flow",
        data=Data(name="random", channels=4, size=32, classes=1000, flip=False),
        model=Model(depth=depth, width=width, heads=heads, patch=2),
        regularizer=loss if dispersive else None,
        meanflow=MeanFlowSettings() if meanflow else None,
        optimizer=Optimizer(),
        batch=batch,
        label_drop=LABEL_DROP,
        ema=0.9999,
        precision=precision,
        matmul="highest",
        seed=0,
    )


def random_data(count: int) -> ImageDataset:
    """Return random bytes in the shape of latents."""
    images = torch.randint(256, (count, 4, 32, 32), dtype=torch.uint8).numpy()
    return ImageDataset("random", "train", torch.arange(count).numpy() % 1000, 1000, "", images, False)


def ours(chosen: TrainSpec, data: ImageDataset, resources: Resources) -> Arm:
    """Return our training step."""
    trainer = Trainer(chosen, data, DEVICE, resources)

    def step(k: int) -> None:
        with matmul_precision(chosen.matmul):
            trainer.step(k)

    return step


def plain(size: str, data: ImageDataset) -> Arm:
    """Return the plain training step."""
    training = PlainTraining(build_objective(spec(size, len(data), "fp32", False)).net.to(DEVICE), 1000)
    x = (torch.from_numpy(data.images).float() / 127.5 - 1).to(DEVICE)
    y = torch.from_numpy(data.labels).to(DEVICE)

    def step(k: int) -> None:
        with memory_as_torch_finds_it():
            training.step(x, y)

    return step


def arms(size: str, data: ImageDataset, compiled: bool) -> dict[str, Arm]:
    """Return everything that is timed."""
    batch, eager = len(data), Resources()
    timed = {
        PLAIN: plain(size, data),
        FP32: ours(spec(size, batch, "fp32", True), data, eager),
        BF16: ours(spec(size, batch, "bf16", True), data, eager),
        "ours, bf16, without the loss": ours(spec(size, batch, "bf16", False), data, eager),
        "ours, bf16, MeanFlow": ours(spec(size, batch, "bf16", False, meanflow=True), data, eager),
    }
    if compiled:
        timed[COMPILED] = ours(spec(size, batch, "bf16", True), data, Resources(compile=True))
    return timed


def gradient_error(size: str, precision: Precision, matmul: str) -> float:
    """Relative ℓ2 error against float64 of the gradient of one step of two images, at weights that are not initial."""
    data = random_data(2)
    objective = build_objective(spec(size, 2, "fp32", False))
    g = torch.Generator().manual_seed(0)
    for weight in objective.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=g)
    x, y = data.batch(torch.arange(2).numpy(), ())
    drawn = draw(objective.process, (), x.shape, LABEL_DROP, 0, 0)

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        objective.to(dtype)
        draws = replace(drawn, t=drawn.t.to(dtype), noise=drawn.noise.to(dtype))
        enabled = precision == "bf16" and dtype == torch.float32
        with matmul_precision(matmul), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = objective(x.to(dtype), y, draws)["loss"]
            trained = [weight for weight in objective.parameters() if weight.requires_grad]
            return torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)]).double()

    found, exact = gradient(torch.float32), gradient(torch.float64)
    return float((found - exact).norm() / exact.norm())


def matmul_rate(precision: Precision, size: int = 4096) -> float:
    """Floating-point operations a second of a square matrix product, the best of five."""
    a = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return max(2 * size**3 / _timed(lambda: a @ a) for _ in range(5))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def print_rates(size: str, batch: int, seconds: dict[str, list[tuple[float, float]]]) -> None:
    """Print the share that each arm reaches of the rate of a matrix product in its precision."""
    objective = build_objective(spec(size, 2, "fp32", False))
    x, y = torch.randn(2, 4, 32, 32), torch.tensor([1, 2])
    with FlopCounterMode(display=False) as counter:
        objective(x, y, draw(objective.process, (), x.shape, LABEL_DROP, 0, 0))["loss"].backward()
    work = counter.get_total_flops() / 2 * batch
    for name, taken in seconds.items():
        rate = matmul_rate("bf16" if "bf16" in name else "fp32")
        achieved = work / statistics.median(wall for wall, _ in taken)
        share = f"{100 * achieved / rate:.0f}% of a matrix product's {rate / 1e12:.2f}"
        print(f"{name:34}{achieved / 1e12:.3f} TFLOP/s, {share}")


def main() -> None:
    """Print times, errors and rates."""
    keep_freed_memory()  # as every job of ours does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="S")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also time the compiled step (half a minute to compile)")
    chosen = parser.parse_args()
    print(f"SiT-{chosen.model}/2, batch {chosen.batch}, {DEVICE}, {torch.get_num_threads()} thread(s)")
    seconds = compare(arms(chosen.model, random_data(chosen.batch), chosen.compile), chosen.rounds)
    print_table(seconds, PLAIN)
    with_loss, without = seconds[BF16], seconds["ours, bf16, without the loss"]
    for i, kind in ((0, "wall"), (1, "CPU")):
        ratio = statistics.median(a[i] / b[i] for a, b in zip(with_loss, without, strict=True))
        print(f"bf16 step with the loss / without, {kind}: {ratio:.4f}")
    print_rates(
        chosen.model, chosen.batch, {name: seconds[name] for name in (PLAIN, FP32, BF16, COMPILED) if name in seconds}
    )
    for precision, matmul in (("fp32", "highest"), ("fp32", "medium"), ("bf16", "highest")):
        error = gradient_error(chosen.model, precision, matmul)  # type: ignore[arg-type]
        print(f"gradient error against float64, {precision}, matmul {matmul}: {error:.1e}")


if __name__ == "__main__":
    main()
