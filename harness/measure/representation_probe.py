"""The representations of a trained network: every block at a few noise levels, measured on images it was not fitted to.

Noise levels are shares u of the way from an image to noise, σ = u/(1 − u) of noise per unit of image: 1 − t of SiT, and
the same σ whatever a process calls its time. Images, noise and splits are the same for every training on a data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.spec import TrainSpec
from harness.data.datasets import Dataset, load, permutation
from harness.data.raw_files import has_pixels
from harness.errors import UserError
from harness.measure.extractors.extractor import array_features, extractor
from harness.measure.metrics import representation
from harness.method.backbone import DiT
from harness.method.processes.process import Process
from harness.method.randomness import generator
from harness.networks.build import build_net, build_process
from harness.networks.checkpoint import load_weights

NOISE_LEVELS = (0.1, 0.4, 0.7)
FIT, HELD_OUT = 10_000, 2_000  # images at most
CHUNK = 256  # images that go through the network together; distances are between these
Look = Callable[[Tensor, Tensor], list[Tensor]]  # images and noise → noisy images, outputs of all blocks
FEWEST = 2 * representation.NEIGHBOURS  # held-out images


@dataclass(frozen=True)
class NoisyImages:
    """Some images of a data set, with the noise that is added to them."""

    x: Tensor  # (N, C, H, W)
    y: Tensor  # (N,)
    noise: Tensor  # (views, N, C, H, W): one to fit, two of those held out


@dataclass(frozen=True)
class Bench:
    """What every training on a data set is probed with. `reference` (M, E): an encoder's features of `held_out`.

    protocol: all that the numbers depend on beside the weights.
    """

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
    if has_pixels(name):
        held_out, cut = load(name, "test", data), FIT
        chosen = permutation(0, 0, len(held_out))[:HELD_OUT]
    else:
        held_out, cut = train, min(FIT, len(train) * 4 // 5)
        chosen = order[cut : cut + HELD_OUT]
    if len(chosen) < FEWEST:
        raise UserError(f"data set {name}: {len(chosen)} held-out images; probing needs at least {FEWEST}")
    reference: Tensor | None = None  # float64
    try:
        encoder = extractor(features, name, data, cache, device=str(device))
        clean = held_out.images_for(chosen, _posterior(held_out, chosen, 2)).numpy()
    except UserError as error:
        encoder_id = f"none: {error}"
    else:
        reference, encoder_id = torch.from_numpy(array_features(clean, encoder).pool).double(), encoder.id
    protocol = {
        "fit": f"{len(order[:cut]):,} of {name}/train",
        "held_out": f"{len(chosen):,} of {name}/{'train, others' if held_out is train else 'test'}",
        "content": held_out.content[:12],
        "encoder": encoder_id,
        "noise": list(NOISE_LEVELS),
        "weights": "ema",
        "label": None,  # the null label: a given one would be the answer to the probe
        "precision": "fp32",
        "pooling": "mean of tokens; norm, distance, uniformity and alignment of flattened outputs",
        "probe": f"logistic regression, penalty {representation.PENALTY:g}, standardised features",
        "pairs_within": CHUNK,
        "neighbours": representation.NEIGHBOURS,
    }
    return Bench(_images(train, order[:cut], 1), _images(held_out, chosen, 2), reference, protocol)


def _posterior(dataset: Dataset, chosen: np.ndarray, views: int) -> tuple[Tensor, ...]:
    return dataset.draw(len(chosen), generator(0, "posterior of probed images", views))


def _images(dataset: Dataset, chosen: np.ndarray, views: int) -> NoisyImages:
    """The chosen images under so many draws of noise; the two splits differ in how many, and so in their streams."""
    x, y = dataset.batch(chosen, _posterior(dataset, chosen, views))
    return NoisyImages(x, y, torch.randn(views, *x.shape, generator=generator(0, "noise of probed images", views)))


def probe(spec: TrainSpec, folder: Path, step: int, bench: Bench, device: torch.device) -> dict[str, Any]:
    """Measure the EMA weights kept in `folder` at a step; the result is ready for JSON."""
    net = build_net(spec)
    net.load_state_dict(load_weights(folder, step, "ema"))
    return {"protocol": bench.protocol, "levels": representations(net, spec, bench, device)}


def representations(net: DiT, spec: TrainSpec, bench: Bench, device: torch.device) -> list[dict[str, Any]]:
    """Return {noise, blocks} for each noise level; block 0 is the noisy image itself, what pixels give.

    Raises:
        UserError: the network's features are not finite.
    """
    net, process, levels = net.to(device).eval(), build_process(spec), []
    for share in NOISE_LEVELS:
        look = partial(outputs, net, process, spec.data.classes, share)
        fit, _ = _features(look, bench.fit)
        held_out, spreads = _features(look, bench.held_out)
        blocks = enumerate(zip(fit, held_out, spreads, strict=True))
        levels.append({"noise": share, "blocks": [{"block": k, **_measured(*block, bench)} for k, block in blocks]})
    return levels


@torch.no_grad()
def outputs(net: DiT, process: Process, null_label: int, share: float, x: Tensor, noise: Tensor) -> list[Tensor]:
    """The images (N, C, H, W) at a share of noise, then every block's output (N, T, D), under the null label."""
    x, noise, t = (tensor.to(net.pos_embed.device) for tensor in (x, noise, process.times_at(share)))
    t, y = t.expand(len(x), *t.shape[1:]), torch.full((len(x),), null_label, device=x.device)
    x_t = process.interpolate(x, t, noise)
    return [x_t, *net.features(x_t, net.times(t), y, range(1, len(net.blocks) + 1))]


def _features(look: Look, images: NoisyImages) -> tuple[list[Tensor], list[representation.Spread]]:
    """Pooled features (N, D) in float64 of the noisy images and of every block; with two views their spreads too."""
    pooled: list[list[Tensor]] = []  # of each chunk, block by block
    spreads: list[list[representation.Spread]] = []
    for rows in torch.arange(len(images.x)).split(CHUNK):
        h, *second = (look(images.x[rows], noise[rows]) for noise in images.noise)
        pooled.append([h[0].flatten(1).double(), *(tokens.mean(1).double() for tokens in h[1:])])
        for h_plus in second:
            spreads.append([representation.spread(*views) for views in zip(h, h_plus, strict=True)])
    features = [torch.cat(parts) for parts in zip(*pooled, strict=True)]
    if not all(bool(x.isfinite().all()) for x in features):
        raise UserError("its features are not finite; there is nothing to measure")
    return features, [representation.joined_spread(parts) for parts in zip(*spreads, strict=True)]


def _measured(fit: Tensor, held_out: Tensor, spread: representation.Spread, bench: Bench) -> dict[str, Any]:
    y, y_held_out = (images.y.to(fit.device) for images in (bench.fit, bench.held_out))
    numbers = {
        "probe_accuracy": representation.probe_accuracy(fit, y, held_out, y_held_out),
        "effective_rank": representation.effective_rank(held_out),
    }
    if bench.reference is not None:
        reference = bench.reference.to(held_out)
        numbers |= {
            "cka": representation.linear_cka(held_out, reference),
            "cknna": representation.cknna(held_out, reference),
        }
    return numbers | spread.numbers()
