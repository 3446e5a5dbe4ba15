"""The representations of a trained network: every block at a few noise levels, measured on images it was not fitted to.

Noise levels are shares u of the way from an image to noise, σ = u/(1 − u) of noise per unit of image: 1 − t of SiT, and
the same σ whatever a process calls its time. Images, noise and splits are the same for every training on a data set.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.spec import ProcessName, TrainSpec
from harness.data.datasets import Dataset, load, permutation
from harness.data.raw_files import READERS
from harness.errors import UserError
from harness.measure.extractors.extractor import array_features, extractor
from harness.measure.metrics.representation import (
    NEIGHBOURS,
    PENALTY,
    Spread,
    cknna,
    effective_rank,
    joined_spread,
    linear_cka,
    probe_accuracy,
    spread,
)
from harness.method.backbone import DiT
from harness.method.processes import consistency, ddpm, imm, shortcut
from harness.method.processes.process import Process
from harness.method.randomness import generator
from harness.networks.build import build_net, build_process
from harness.networks.checkpoint import load_weights

NOISE_LEVELS = (0.1, 0.4, 0.7)
FIT, HELD_OUT = 10_000, 2_000  # images at most
CHUNK = 256  # images that go through the network together; distances are between these
FEWEST = 2 * NEIGHBOURS  # held-out images


@dataclass(frozen=True)
class NoisyImages:
    """Some images of a data set, with the noise that is added to them."""

    x: Tensor  # (N, C, H, W)
    y: Tensor  # (N,)
    noise: Tensor  # (views, N, C, H, W): one to fit, two of those held out


@dataclass(frozen=True)
class Bench:
    """What every training on a data set is probed with. `reference` (M, E): an encoder's features of `held_out`."""

    fit: NoisyImages
    held_out: NoisyImages
    reference: Tensor | None
    protocol: dict[str, Any]


def bench(name: str, features: str, data: Path, cache: Path, device: torch.device) -> Bench:
    """Return the images to probe with, chosen at random and always the same, and what an encoder makes of them.

    Where a data set has no test images (latents), the held-out ones are of the training images too: the network knows
    them, and the probe does not. features: the reference encoder is the network that they are of, as in `extractor`.

    Raises:
        UserError: the data set is not there, or has too few images for two splits.
    """
    train = load(name, "train", data)
    order = permutation(0, 0, len(train))
    if name in READERS:
        held_out, cut = load(name, "test", data), FIT
        chosen = permutation(0, 0, len(held_out))[:HELD_OUT]
    else:
        held_out, cut = train, min(FIT, len(train) * 4 // 5)
        chosen = order[cut : cut + HELD_OUT]
    if len(chosen) < FEWEST:
        raise UserError(f"data set {name}: {len(chosen)} held-out images; probing needs at least {FEWEST}")
    reference, encoder = _reference(held_out, chosen, features, data, cache, device)
    protocol = {
        "fit": f"{len(order[:cut]):,} of {name}/train",
        "held_out": f"{len(chosen):,} of {name}/{'train, others' if held_out is train else 'test'}",
        "content": held_out.content[:12],
        "encoder": encoder,
    }
    return Bench(_images(train, order[:cut], 1), _images(held_out, chosen, 2), reference, protocol)


def _reference(
    held_out: Dataset, chosen: np.ndarray, features: str, data: Path, cache: Path, device: torch.device
) -> tuple[Tensor | None, str]:
    """The encoder's features of the clean images, float64 (M, E), and its name; or None, and why."""
    try:
        encoder = extractor(features, held_out.name, data, cache, device=str(device))
        images = held_out.images_for(chosen, _posterior(held_out, chosen, 2))
    except UserError as error:
        return None, f"none: {error}"
    return torch.from_numpy(array_features(images.numpy(), encoder).pool).double(), encoder.id


def _posterior(dataset: Dataset, chosen: np.ndarray, views: int) -> tuple[Tensor, ...]:
    return dataset.draw(len(chosen), generator(0, "posterior of probed images", views))


def _images(dataset: Dataset, chosen: np.ndarray, views: int) -> NoisyImages:
    """The chosen images under so many draws of noise; the two splits differ in how many, and so in their streams."""
    x, y = dataset.batch(chosen, _posterior(dataset, chosen, views))
    return NoisyImages(x, y, torch.randn(views, *x.shape, generator=generator(0, "noise of probed images", views)))


def times_at(process: ProcessName, share: float) -> tuple[float, float]:
    """The times of `process` at a share u of noise, 0 < u < 1: those of the network, or the first of the two.

    Of the two times the second asks for what is nearest to a denoiser: MeanFlow's velocity at t, the smallest step of
    a shortcut model, IMM's jump to the image.
    """
    sigma = share / (1 - share)
    if process == "ddpm":
        levels = ddpm.noise_level(torch.arange(ddpm.STEPS))
        return float((levels.log() - math.log(sigma)).abs().argmin()), 0.0
    if process == "consistency":
        log_sigma = math.log(min(max(sigma, consistency.SIGMA_MIN), consistency.SIGMA_MAX))
        return log_sigma, log_sigma
    return {
        "flow": (1 - share, 0.0),
        "meanflow": (share, 0.0),
        "shortcut": (1 - share, float(shortcut.LEVELS)),
        "imm": (min(share, imm.END), min(share, imm.END)),
    }[process]


def probe(spec: TrainSpec, folder: Path, step: int, bench: Bench, device: torch.device) -> dict[str, Any]:
    """Measure the EMA weights kept in `folder` at a step; the result is ready for JSON."""
    net = build_net(spec)
    net.load_state_dict(load_weights(folder, step, "ema"))
    levels = representations(net, spec, bench, device)
    return {"protocol": protocol(bench), "levels": levels}


def protocol(bench: Bench) -> dict[str, Any]:
    """All that the numbers depend on beside the weights."""
    return {
        **bench.protocol,
        "noise": list(NOISE_LEVELS),
        "weights": "ema",
        "label": None,  # the null label: a given one would be the answer to the probe
        "precision": "fp32",
        "pooling": "mean of tokens; norm, distance, uniformity and alignment of flattened outputs",
        "probe": f"logistic regression, penalty {PENALTY:g}, standardised features",
        "pairs_within": CHUNK,
        "neighbours": NEIGHBOURS,
    }


def representations(net: DiT, spec: TrainSpec, bench: Bench, device: torch.device) -> list[dict[str, Any]]:
    """Return {noise, blocks} for each noise level; block 0 is the noisy image itself, what pixels give.

    Raises:
        UserError: the network's features are not finite.
    """
    look = partial(_look, net.to(device).eval(), build_process(spec), spec, device)
    levels = []
    for share in NOISE_LEVELS:
        t = torch.tensor(times_at(spec.process, share))
        fit, _ = look(t, bench.fit)
        held_out, spreads = look(t, bench.held_out)
        parts = enumerate(zip(fit, held_out, spreads, strict=True))
        levels.append({"noise": share, "blocks": [{"block": k, **_measured(*part, bench)} for k, part in parts]})
    return levels


@torch.no_grad()
def _look(
    net: DiT, process: Process, spec: TrainSpec, device: torch.device, t: Tensor, images: NoisyImages
) -> tuple[list[Tensor], list[Spread]]:
    """Pooled features (N, D) in float64 of the noisy images and of every block; with two views their spreads too."""
    pooled: list[list[Tensor]] = [[] for _ in range(len(net.blocks) + 1)]
    spreads: list[list[Spread]] = [[] for _ in pooled]
    for rows in torch.arange(len(images.x)).split(CHUNK):
        views = [_outputs(net, process, spec, device, t, images.x[rows], noise[rows]) for noise in images.noise]
        for block, h in enumerate(views[0]):
            pooled[block].append((h.mean(1) if block else h.flatten(1)).double())
            if len(views) > 1:
                spreads[block].append(spread(h.flatten(1), views[1][block].flatten(1)))
    if not all(bool(part.isfinite().all()) for parts in pooled for part in parts):
        raise UserError("its features are not finite; there is nothing to measure")
    return [torch.cat(parts) for parts in pooled], [joined_spread(parts) for parts in spreads if parts]


def _outputs(
    net: DiT, process: Process, spec: TrainSpec, device: torch.device, t: Tensor, x: Tensor, noise: Tensor
) -> list[Tensor]:
    """The noisy images (N, C, H, W), then every block's output (N, T, D), under the null label."""
    times = t.expand(len(x), -1).to(device)
    if spec.process == "ddpm":
        times = times.long()
    t_interpolate = times[:, 0] if spec.process in ("flow", "ddpm") else times
    x_t = process.interpolate(x.to(device), t_interpolate, noise.to(device))
    y = torch.full((len(x),), spec.data.classes, device=device)
    return [x_t, *net.features(x_t, times.unbind(1)[: net.num_times], y, range(1, len(net.blocks) + 1))]


def _measured(fit: Tensor, held_out: Tensor, spread_: Spread, bench: Bench) -> dict[str, Any]:
    labels = [images.y.to(fit.device) for images in (bench.fit, bench.held_out)]
    numbers = {
        "probe_accuracy": probe_accuracy(fit, labels[0], held_out, labels[1]),
        "effective_rank": effective_rank(held_out),
    }
    if bench.reference is not None:
        reference = bench.reference.to(held_out)
        numbers |= {"cka": linear_cka(held_out, reference), "cknna": cknna(held_out, reference)}
    return numbers | spread_.numbers()
