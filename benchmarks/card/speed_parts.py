"""How fast is it on a card: products, steps, sampling, features, loading; and a profile of a step."""

import copy
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from card.record import Row, attempt
from card.workloads import ARITHMETIC, COMPILED, EAGER, NAMES, Card, relative, spec, trainer
from harness.config.settings.data_settings import EvaluationSettings
from harness.config.settings.process_settings import SamplerSettings
from harness.config.spec import EvalSpec, TrainSpec
from harness.data.datasets import LatentDataset
from harness.engine.sample import Sampler
from harness.engine.sample_cache import SampleFile
from harness.engine.train import Trainer
from harness.measure.extractors.inception import INCEPTION, Inception, load_inception
from harness.measure.metrics.neighbours import manifold
from harness.measure.workspace import Workspace
from harness.method.precision import matmul_precision
from harness.method.processes import flow
from harness.networks.build import build_net, compile_blocks
from harness.planning import flops

Rows = Iterator[tuple[str, Row]]
REFERENCE = 1_281_167  # images of ImageNet's training set
FEATURES = 2048
ONE_AFTER_ANOTHER = threading.Lock()
RESERVE = 70.0  # seconds that the other parts need when there are no more for another row


def peak_rate(card: Card) -> float | None:
    """FLOP/s of the card in bf16 by its data sheet; None where that is not known here, and on a CPU."""
    from harness.planning.cost import GPUS

    name = torch.cuda.get_device_name(card.device).replace(" ", "") if card.on_gpu else ""
    return next((rates["bf16"] for gpu, rates in GPUS.items() if gpu in name), None)


def env(card: Card) -> Rows:
    """Rates of matrix products, checked against float64, and of copies.

    The fault: the second matrix is transposed.
    """
    n = 512 if card.tiny else 8192
    a, b = torch.randn(n, n, device=card.device), torch.randn(n, n, device=card.device)
    for name, dtype, matmul in (
        ("bf16", torch.bfloat16, "highest"),
        ("TF32", torch.float32, "high"),
        ("fp32", torch.float32, "highest"),
    ):
        x, y = a.to(dtype), (b.T if card.faulty else b).to(dtype)
        with matmul_precision(matmul):
            seconds = card.seconds(lambda x=x, y=y: x @ y, 5)  # type: ignore[misc]
            error = relative((x @ y)[:64], a[:64].double() @ b.double())
        yield f"matrix product, {name}", {"TFLOP/s": 2e-12 * n**3 / seconds, "relative error": error}
    rows, columns = (1000, 4096) if card.tiny else (1000, 65536)
    x = torch.randn(rows, FEATURES, device=card.device, dtype=torch.float64)
    y = torch.randn(columns, FEATURES, device=card.device, dtype=torch.float64)
    seconds = card.seconds(lambda: x @ y.T, 3)
    hours = seconds * REFERENCE / rows * REFERENCE / columns / 3600
    yield (
        "pairs of features, fp64",
        {
            "TFLOP/s": 2e-12 * rows * columns * FEATURES / seconds,
            f"hours of all pairs of {REFERENCE:,} by this rate": hours,
        },
    )
    x = torch.randn(1 << (20 if card.tiny else 30), device=card.device)
    yield "copy", {"GB/s, read and written": 8e-9 * x.numel() / card.seconds(x.clone, 5)}


STEPS: tuple[tuple[str, str, bool, bool], ...] = (  # size, family, with the loss, compiled
    ("B", "flow", True, True),
    ("B", "flow", False, True),
    ("XL", "flow", True, True),
    ("B", "meanflow", False, True),
    ("L", "flow", True, True),
    ("B", "flow", True, False),
    ("S", "flow", True, True),
    ("B", "meanflow", False, False),
    ("XL", "meanflow", False, True),
    ("XL", "flow", True, False),
    ("S", "flow", True, False),
)


def speed(card: Card) -> Rows:
    """Steps of the paper's batch; MFU by the operations that `harness plan` counts.

    The fault: the steps are not taken.
    """
    milliseconds: dict[tuple[str, str, bool, bool], float] = {}
    for size, process, loss, blocks_compiled in STEPS:
        if card.left < RESERVE:
            break
        chosen = spec(card.sized(size), card.batch, process, "dispersive" if loss else None, side=card.side)
        row = attempt(partial(timed_step, card, chosen, blocks_compiled and not card.tiny))
        milliseconds[size, process, loss, blocks_compiled] = row.get("ms", math.nan)
        words = f"{'with' if loss else 'without'} the loss, {'compiled' if blocks_compiled else 'eager'}"
        yield f"{NAMES[process]}-{size}/2, {words}", row
    base = milliseconds.get(("B", "flow", False, True), math.nan)
    yield "the loss", {"step with / without": milliseconds.get(("B", "flow", True, True), math.nan) / base}
    yield "MeanFlow, compiled", {"step / SiT's": milliseconds.get(("B", "meanflow", False, True), math.nan) / base}


def timed_step(card: Card, chosen: TrainSpec, blocks_compiled: bool) -> Row:
    """Return what a step takes, once the first has been taken."""
    card.forget()
    begun = time.perf_counter()
    made = trainer(chosen, card.device, COMPILED if blocks_compiled else EAGER, images=4096)
    steps = iter(range(1000))

    def step() -> None:
        if not card.faulty:
            made.step(next(steps))

    with matmul_precision(chosen.matmul):
        before = weights(made)
        step()
        card.wait()
        ready = time.perf_counter() - begun
        seconds = card.streamed(step, *((2, 0) if card.tiny else (10, 4)))
        moved = float((weights(made) - before).abs().max())
    work, peak = chosen.batch * flops.training(chosen), peak_rate(card)
    row = {"ms": 1e3 * seconds, "images/s": chosen.batch / seconds, "TFLOP/s": 1e-12 * work / seconds}
    row |= {"MFU": work / seconds / peak} if peak else {}
    return row | {"peak GiB": card.peak(), "ready after s": ready, "largest change of a weight": moved}


def weights(made: Trainer) -> Tensor:
    """Return some weights that every step changes, on the CPU."""
    return next(p for name, p in made.net.named_parameters() if name.endswith("qkv.weight")).detach().cpu().clone()


def sampling(card: Card) -> Rows:
    """Heun's evaluations of the network, many images at once, and the hours of 50,000 images at 498 evaluations.

    The fault: bf16 draws images of another noise.
    """
    for size in ("B", "XL", "S"):
        torch.manual_seed(0)
        net = build_net(spec(card.sized(size), card.batch, side=card.side)).initialise(0)
        for p in net.parameters():  # the public initialisation draws zeros
            p.data += 0.02 * torch.randn(p.shape)
        net = net.to(card.device).eval()
        for count in (4, 8) if card.tiny else (64, 256):
            strict: tuple[float, Tensor] | None = None
            for words, precision, matmul in ARITHMETIC:
                if card.left < RESERVE / 2:
                    return
                torch.manual_seed(1 if card.faulty and precision == "bf16" else 0)
                noise = torch.randn(count, 4, card.side, card.side).to(card.device)
                drawn = timed_sampling(card, net, noise, precision == "bf16", matmul)
                strict = strict or drawn
                yield f"SiT-{size}/2, {count} at once, {words}", sampling_row(count, drawn, strict)
        if size == "B":
            yield "SiT-B/2, a tile by the project's sampler", attempt(partial(sampled_tile, card, net))


def sampling_row(count: int, drawn: tuple[float, Tensor], strict: tuple[float, Tensor]) -> Row:
    """Return what is said of seconds and images, beside those in strict fp32."""
    return {
        "ms an evaluation": 1e3 * drawn[0],
        "GPU-hours of 50,000 images": 50_000 / count * 498 * drawn[0] / 3600,
        "× as fast as strict fp32": strict[0] / drawn[0],
        "relative difference to strict fp32": relative(drawn[1], strict[1]),
    }


def sampled_tile(card: Card, net: Any) -> Row:
    """Draw a tile twice as the scale imagenet256 does, and a tenth of its intervals: in TF32, compiled, from seeds."""
    count, evaluations = (8, 4) if card.tiny else (256, 50)
    if not card.tiny:
        compile_blocks(net)
    tiles, seconds = [], 0.0
    for first in (0, count if card.faulty else 0):
        sampler = SamplerSettings(method="heun", intervals=evaluations // 2, matmul="tf32", tile=count)
        wanted = EvalSpec(step=0, sampler=sampler, evaluation=EvaluationSettings(samples=count), first_image=first)
        with tempfile.TemporaryDirectory() as name:
            weights_file = Path(name, "weights")
            weights_file.touch()
            begun = time.perf_counter()
            drawn = Sampler(spec(card.sized("B"), card.batch, side=card.side), wanted).draw_from(
                net, SampleFile(Path(name), "tile", weights_file)
            )
            seconds = time.perf_counter() - begun  # of the second, when all is compiled
            assert drawn is not None
            tiles.append(np.array(drawn.images))
    return {
        "ms an evaluation": 1e3 * seconds / evaluations,
        "GPU-hours of 50,000 images": 50_000 / count * 498 * seconds / evaluations / 3600,
        "bytes that differ when drawn again": int((tiles[0] != tiles[1]).sum()),
    }


def timed_sampling(card: Card, net: Any, noise: Tensor, bf16: bool, matmul: str) -> tuple[float, Tensor]:
    """Return the seconds of one evaluation, and what is drawn in four."""
    y = torch.zeros(len(noise), dtype=torch.long, device=card.device)
    drawn: list[Tensor] = []

    def draw() -> None:
        with (
            matmul_precision(matmul),
            torch.inference_mode(),
            torch.autocast(card.device.type, torch.bfloat16, enabled=bf16),
        ):
            drawn[:] = [flow.sample(net, noise, y, "heun", 2)]

    return card.streamed(draw, 2, 1) / 4, drawn[0].float()


def measure(card: Card) -> Rows:
    """Inception on the card against the CPU, by random weights, and decoding by an autoencoder of the public shape.

    The fault: the card's network has other weights.
    """
    network = random_inception()
    mine = copy.deepcopy(network)
    if card.faulty:
        mine.Conv2d_3b_1x1.conv.weight.data *= 1.01
    on_cpu = Inception(network)
    on_card = Inception(mine).to(device=card.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    few, many = (2, 2) if card.tiny else (16, 64)
    images = torch.randint(0, 256, (few, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = images.to(card.device).repeat(many // few, 1, 1, 1)
    with torch.no_grad():
        expected = on_cpu(images).pool
        for tf32 in (False, True):
            with convolutions_in_tf32(tf32):
                difference = relative(on_card(images.to(card.device)).pool, expected)
                seconds = card.streamed(lambda: on_card(batch), *((1, 0) if card.tiny else (5, 2)))
            yield (
                f"Inception, cudnn TF32 {'on' if tf32 else 'off'}",
                {
                    "relative difference to the CPU": difference,
                    "images/s": many / seconds,
                },
            )
    yield from pairs(card)
    yield from decoding(card)


@contextmanager
def convolutions_in_tf32(allowed: bool) -> Iterator[None]:
    """Let cuDNN multiply in TF32 or not, and put back what was."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def pairs(card: Card) -> Rows:
    """Neighbours and kernels of all pairs of one set in float64, by the project's own code: against the CPU, and how
    fast."""
    drawn = np.random.default_rng(0).standard_normal((200 if card.tiny else 20_000, FEATURES), np.float32)
    few = drawn[:200] if card.tiny else drawn[:1000]
    expected, measured = (
        manifold(few),
        manifold(few * (1.01 if card.faulty else 1), workspace=Workspace(device=card.device)),
    )
    difference = relative(torch.from_numpy(measured.radii), torch.from_numpy(expected.radii))
    seconds = card.streamed(lambda: manifold(drawn, workspace=Workspace(device=card.device)), 1, 0)
    yield (
        "pairs of features, fp64",
        {
            "relative difference to the CPU": difference,
            "pairs/s": len(drawn) ** 2 / seconds,
            f"hours of all pairs of {REFERENCE:,}": REFERENCE**2 / len(drawn) ** 2 * seconds / 3600,
        },
    )


def random_inception() -> Any:
    """Return torch-fidelity's Inception with random weights: the published ones are 95 MB and need not travel."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class RandomWeights(FeatureExtractorInceptionV3):
        def load_state_dict(self, *arguments: Any, **others: Any) -> None:
            """Keep the weights that were drawn."""

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pth")
        torch.save({}, path)
        drawn = RandomWeights(INCEPTION, ["2048"], feature_extractor_weights_path=str(path))
        torch.save(drawn.state_dict(), path)
        return load_inception(path)


def decoding(card: Card) -> Rows:
    """Images a second of an autoencoder with Stable Diffusion's shape, several latents at once."""
    from diffusers import AutoencoderKL

    widths = [32] * 4 if card.tiny else [128, 256, 512, 512]
    decoder: Any = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=widths,
        layers_per_block=1 if card.tiny else 2,
        latent_channels=4,
    )
    decoder.to(card.device).eval()
    for count, tf32 in ((1, False), (2, False)) if card.tiny else ((1, False), (16, False), (16, True), (64, True)):
        z = torch.randn(count, 4, card.side, card.side, device=card.device)
        with torch.inference_mode(), convolutions_in_tf32(tf32):
            seconds = card.streamed(lambda z=z: decoder.decode(z).sample, 2, 1)  # type: ignore[misc]
        yield f"decoding, {count} at once, cudnn TF32 {'on' if tf32 else 'off'}", {"images/s": count / seconds}


def loader(card: Card) -> Rows:
    """A training's own loop on latents in memory, against one that learns from the same batch again and again.

    The fault: each batch takes a second more to make.
    """
    items, calls = (512, (4, 0)) if card.tiny else (20_000, (20, 8))
    moments = np.zeros((items, 8, card.side, card.side), np.float16 if card.tiny else np.float32)
    labels = np.zeros(items, np.int64)
    kind = SlowLatents if card.faulty else LatentDataset
    latents = kind("latents", "train", labels, 1000, "", moments, moments.copy(), 0.18215, "mean,logvar")
    for size in ("S",) if card.tiny else ("S", "B"):
        card.forget()
        chosen = spec(card.sized(size), card.batch, side=card.side)
        made = Trainer(chosen, latents, card.device, EAGER if card.tiny else COMPILED)
        with closing(made.batches), matmul_precision(chosen.matmul):
            yield f"SiT-{size}/2", fed_and_fixed(card, made, calls)


def fed_and_fixed(card: Card, made: Trainer, calls: tuple[int, int]) -> Row:
    """Time steps on one batch, and then on those that the loader makes."""
    fixed, steps = made.batches.get(0), iter(range(1, 1000))
    with mock.patch.object(made.batches, "get", return_value=fixed):
        best = card.streamed(lambda: made.step(0), *calls)
    fed = card.streamed(lambda: made.step(next(steps)), *calls)
    return {
        "images/s with the loader": card.batch / fed,
        "images/s of one batch": card.batch / best,
        "loader / fixed batch": best / fed,
    }


class SlowLatents(LatentDataset):
    """The fault."""

    def batch(self, indices: np.ndarray, draws: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the batch, late."""
        with ONE_AFTER_ANOTHER:
            time.sleep(1)
        return super().batch(indices, draws)


def profile(card: Card) -> Rows:
    """Write the thirty dearest operations of a step of B/2 to profile.txt.

    The fault: no step is taken.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    card.forget()
    chosen = spec(card.sized("B"), card.batch, side=card.side)
    made = trainer(chosen, card.device, EAGER if card.tiny else COMPILED)
    steps = range(1, 1) if card.faulty else range(4, 6)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * card.on_gpu
    with matmul_precision(chosen.matmul):
        for k in range(steps.start):
            made.step(k)
        with profiled(activities=kinds) as seen:
            for k in steps:
                made.step(k)
            card.wait()
    events = seen.key_averages()
    order = "self_cuda_time_total" if card.on_gpu else "self_cpu_time_total"
    card.out.joinpath("profile.txt").write_text(events.table(sort_by=order, row_limit=30, max_name_column_width=70))
    yield "a step of B/2", {"operations a step": sum(event.count for event in events) / 2, "file": "profile.txt"}
