"""The networks whose features are compared, and the one pass over images that gives all that the metrics need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data.datasets import load_images
from harness.engine.distributed import ALONE, World
from harness.errors import UserError
from harness.measure.extractors import classifier, inception, timm_models
from harness.measure.extractors.inception import INCEPTION, Outputs
from harness.measure.images import Images, of_array
from harness.measure.metrics.diversity import ClassDistances, class_diversity
from harness.measure.metrics.frechet import Moments, Statistics

BATCH = 64


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
        UserError: an image cannot be read.
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
    return Features(
        _joined(all_pools),
        None if extractor.no_spatial else sum(all_moments, Moments()).statistics(),
        None if extractor.no_logits else _joined(all_logits),
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
    if timm_models.is_model(name):
        return _timm(name, weights, torch.device(device))
    raise UserError(f"features '{name}' are unknown; legal: classifier, {INCEPTION}, or a model of timm")


def _classifier(dataset: str, data: Path, cache: Path, device: torch.device) -> Extractor:
    train, test = (load_images(dataset, split, data) for split in ("train", "test"))
    chosen = classifier.classifier(train, test, cache)
    chosen.network.to(device)
    note = f"{dataset} classifier, {100 * chosen.record['accuracy']:.1f}% test accuracy"
    name = f"classifier-{dataset}-{chosen.record['weights'][:12]}"
    return Extractor(name, note, partial(classifier.outputs, chosen), device, no_maps="", name="classifier")


def _inception(weights: Path, device: torch.device) -> Extractor:
    network = inception.load_inception(weights)
    name = f"{INCEPTION}-{inception.trunk_hash(network)}"
    fast = inception.Inception(network).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def outputs(images: Tensor) -> Outputs:
        return fast(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)

    note = "torch-fidelity's Inception-v3 of 2015-12-05, 2048 pooled features"
    no_logits = "" if fast.last is not None else f"{weights.name} lacks Inception's last layer (its weights are zero)"
    return Extractor(name, note, outputs, device, no_spatial="", no_logits=no_logits, no_maps="", name=INCEPTION)


def _timm(name: str, weights: Path | None, device: torch.device) -> Extractor:
    network, sha256, output = timm_models.load_timm(name, weights)
    side, origin = timm_models.side_of(network), weights.name if weights else "the published weights"
    note = f"timm's {name}, {origin}; images resized to {side}×{side}, {output}"
    outputs = partial(timm_models.outputs, network.to(device))
    return Extractor(f"{name}-{sha256[:12]}", note, outputs, device, name=name, foreign=True)
