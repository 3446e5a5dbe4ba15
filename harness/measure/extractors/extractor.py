"""The networks whose features are compared, and the one pass over images that gives all that the metrics need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.datasets import load_images
from harness.data.finite import check_finite
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure.extractors import inception
from harness.measure.extractors.inception import INCEPTION, Outputs
from harness.measure.images import Images, of_array
from harness.measure.metrics.diversity import ClassDistances, class_diversity, perceptual
from harness.measure.metrics.frechet import Moments, Statistics
from harness.networks.encoder import pretrained, tensors_sha256
from harness.networks.supervised import Recipe, TrainedNetwork, resize, trained

BATCH = 64
# Of the small classifiers whose pooled features stand for Inception's where images are tiny or grey.
RECIPES = {
    "digits": Recipe(side=16, steps=200, batch=64, shift=0.1, mirror=False),
    "fashion-mnist": Recipe(side=32, steps=1500, batch=128, shift=0.03, mirror=False),
    "cifar10": Recipe(side=32, steps=4000, batch=128, shift=0.12, mirror=True),
}


@dataclass(frozen=True)
class Extractor:
    """Images to features. `id` names the weights as well as the protocol: features of different ids never compare."""

    id: str
    note: str  # for people
    network: Callable[[Tensor], Outputs]  # of uint8 (B, C, H, W)
    device: torch.device
    batch: int = BATCH
    no_spatial: str = "these features have no positions"  # why there is no sFID; "" where there is one
    no_logits: str = "it is defined on Inception's classes"  # why there is no Inception Score; "" where there is one
    no_maps: str = "these features come without maps"  # why there is no LPIPS-style distance; "" where there is one
    name: str = ""  # as people ask for it
    foreign: bool = False  # FID and KID are called FD and KD, and names carry the features


@dataclass(frozen=True)
class Features:
    """The features of a set of images; None where the extractor has no such thing."""

    pool: np.ndarray  # float32 (N, D)
    spatial: Statistics | None = None
    logits: np.ndarray | None = None  # float32 (N, classes)
    labels: np.ndarray | None = None  # int64 (N,)
    diversity: float | None = None  # within a class; None where no class has two images, or nobody knows the classes


@torch.no_grad()
def extract(images: Images, extractor: Extractor, world: World = ALONE) -> Features:
    """Return the features of images in one pass, the work shared among the processes; all of them get all of it.

    Only the pooled features and the logits are kept for each image; the spatial ones enter sums, and of the maps those
    of each class's latest image are kept.

    Raises:
        UserError: an image cannot be read, or its features are not finite; in all processes.
    """
    start, stop = (images.count * r // world.size for r in (world.rank, world.rank + 1))
    pools, logits, moments = Rows(stop - start), Rows(stop - start), Moments()
    classes = ClassDistances(None if extractor.no_maps else images.labels)
    for i in classes.before(start, stop):
        classes.update(i, _outputs(images.one(i)[None], extractor).perceptual)
    for first, batch in enumerate(images.batches(extractor.batch, start, stop)):
        outputs = _outputs(batch, extractor)
        pools.add(outputs.pool)
        if outputs.spatial is not None:
            moments.update(outputs.spatial)
        if outputs.logits is not None:
            logits.add(outputs.logits)
        classes.update(start + first * extractor.batch, outputs.perceptual)
    parts = world.all_gather((pools.rows, moments, logits.rows, classes.distances))
    all_pools, all_moments, all_logits, all_distances = zip(*parts, strict=True)
    pool, own_logits = _joined(all_pools), None if extractor.no_logits else _joined(all_logits)
    for kind, rows in (("features", pool), ("logits", own_logits)):
        if rows is not None:
            check_finite(rows, f"{images.name}: {kind} of {extractor.id}", "nothing can be measured with them")
    return Features(
        pool,
        None if extractor.no_spatial else sum(all_moments, Moments()).statistics(),
        own_logits,
        images.labels,
        class_diversity(all_distances),
    )


class Rows:
    """Rows (N, …) that come in batches. They are written into one array: many small ones, made between the network's
    large ones, would lie so that the memory of those could not be used again.
    """

    def __init__(self, count: int) -> None:
        """Make room for `count` rows once the first are there."""
        self.count, self.filled = count, 0
        self.rows: Tensor | None = None

    def add(self, batch: Tensor) -> None:
        """Add rows (n, …), from any device."""
        if self.rows is None:
            self.rows = torch.empty(self.count, *batch.shape[1:], dtype=torch.float32)
        self.rows[self.filled : self.filled + len(batch)] = batch
        self.filled += len(batch)


def _joined(parts: Sequence[Tensor | None]) -> np.ndarray:
    rows = [part for part in parts if part is not None]
    return (torch.cat(rows) if len(rows) > 1 else rows[0]).numpy()


def _outputs(batch: np.ndarray, extractor: Extractor) -> Outputs:
    return extractor.network(torch.from_numpy(batch).to(extractor.device))


def array_features(images: np.ndarray, extractor: Extractor) -> Features:
    """Return the features of uint8 images (N, C, H, W) in memory."""
    return extract(of_array(images, "array"), extractor)


def extractor(
    name: str, dataset: str, data: Path, cache: Path, weights: Path | None = None, device: str = "cpu"
) -> Extractor:
    """Return the extractor `name` for images of a data set: "classifier", "inception-v3-compat", or a model of timm.

    `weights` is the file of its weights; by default `<data>/inception-v3-compat.pth`, or what timm publishes.

    Raises:
        UserError: an unknown name, a data set without a recipe, or missing weights.
    """
    if name == "classifier":
        return _classifier(dataset, data, cache, torch.device(device))
    if name == INCEPTION:
        return _inception(weights or inception.inception_weights(data), torch.device(device))
    if timm.is_model(name.partition(".")[0]):  # a name may carry the tag of its weights
        return _timm(name, weights, torch.device(device))
    raise UserError(f"features '{name}' are unknown; legal: classifier, {INCEPTION}, or a model of timm")


def _classifier(dataset: str, data: Path, cache: Path, device: torch.device) -> Extractor:
    train, test = (load_images(dataset, split, data) for split in ("train", "test"))
    chosen = trained("classifier", recipe_of(dataset), train, test, cache)
    chosen.network.to(device)
    note = f"{dataset} classifier, {100 * chosen.record['accuracy']:.1f}% test accuracy"
    name = f"classifier-{dataset}-{chosen.record['weights'][:12]}"
    return Extractor(name, note, partial(classifier_outputs, chosen), device, no_maps="", name="classifier")


def classifier_outputs(classifier: TrainedNetwork, images: Tensor) -> Outputs:
    """Return the pooled features before the last layer, float32 (B, D), of uint8 images (B, C, H, W), and maps."""
    network: Any = classifier.network
    x, maps = network.forward_intermediates(resize(images, classifier.side))
    return Outputs(network.forward_head(x, pre_logits=True), perceptual=perceptual(maps))


def recipe_of(dataset: str) -> Recipe:
    """Return the recipe of a data set's classifier.

    Raises:
        UserError: it has none.
    """
    if dataset not in RECIPES:
        raise UserError(f"features 'classifier': no recipe for data set {dataset}; legal: {', '.join(RECIPES)}")
    return RECIPES[dataset]


def _inception(weights: Path, device: torch.device) -> Extractor:
    network = inception.load_inception(weights)
    name = f"{INCEPTION}-{inception.trunk_hash(network)}"
    fast = inception.Inception(network).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    note = "torch-fidelity's Inception-v3 of 2015-12-05, 2048 pooled features"
    no_logits = "" if fast.last is not None else f"{weights.name} lacks Inception's last layer (its weights are zero)"
    return Extractor(name, note, fast, device, no_spatial="", no_logits=no_logits, no_maps="", name=INCEPTION)


def _timm(name: str, weights: Path | None, device: torch.device) -> Extractor:
    network = load_timm(name, weights)
    cfg, sha256, output = network.pretrained_cfg, tensors_sha256(network), "its embedding"
    # timm keeps CLIP's projection where other networks have their classes; fine-tuned ones have classes again.
    if "_clip" not in cfg["architecture"] or "ft_" in cfg.get("tag", ""):
        network.reset_classifier(0)
        output = "its features before the last layer"
    side, origin = cfg["input_size"][-1], weights.name if weights else "the published weights"
    note = f"timm's {name}, {origin}; images resized to {side}×{side}, {output}"
    outputs = partial(timm_outputs, network.eval().requires_grad_(False).to(device), side)
    return Extractor(f"{name}-{sha256[:12]}", note, outputs, device, name=name, foreign=True)


def load_timm(name: str, weights: Path | None) -> Any:
    """Return a model of timm with the weights of a file, or with those that timm publishes under its tag.

    Raises:
        UserError: no weights are published, they cannot be had, or the file holds others.
    """
    if weights is None and not timm.is_model_pretrained(name):
        raise UserError(f"features {name}: timm publishes no weights under this name; give a file by --weights")
    return pretrained(name, weights, f"features {name}", "give a file by --weights")


def timm_outputs(network: Any, side: int, images: Tensor) -> Outputs:
    """Return the features of uint8 images (B, 3, H, W), or of grey ones (B, 1, H, W), by a network of timm.

    Images are resized whole, bicubically and with antialiasing, to the side that the network was made for.
    """
    x = (images.float() / 255).expand(-1, 3, -1, -1)
    x = F.interpolate(x, (side, side), mode="bicubic", align_corners=False, antialias=True)
    mean, std = (x.new_tensor(network.pretrained_cfg[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    return Outputs(network((x - mean) / std))
