"""The networks whose features are compared, and the one pass over images that gives all that the metrics need."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from harness.data.raw_files import READERS, RawDataSet
from harness.errors import UserError, user_error
from harness.measure.extractors import inception
from harness.measure.extractors.inception import INCEPTION, Outputs
from harness.measure.images import Images, of_array
from harness.measure.metrics.diversity import ClassDistances, class_diversity, perceptual
from harness.measure.metrics.frechet import Moments, Statistics
from harness.measure.workspace import Arrays, Workspace
from harness.method.precision import matmul_precision
from harness.networks.encoder import pretrained, tensors_sha256
from harness.networks.supervised import Recipe, TrainedNetwork, resize, rotations, trained
from harness.picture_folder import PREFIX
from harness.plugins import Registry

BATCH = 64
PART = 8192  # images that one process turns into features at a time, and that a kill costs at most
# Of the small classifiers whose pooled features stand for Inception's where images are tiny or grey.
RECIPES = {
    "digits": Recipe(side=16, steps=200, batch=64, shift=0.1, mirror=False),
    "fashion-mnist": Recipe(side=32, steps=1500, batch=128, shift=0.03, mirror=False),
    "cifar10": Recipe(side=32, steps=4000, batch=128, shift=0.12, mirror=True),
    "cifar10-5000": Recipe(side=32, steps=2000, batch=128, shift=0.12, mirror=True),
}


OF_FOLDERS = Recipe(side=32, steps=300, batch=64, shift=0.05, mirror=False)


@dataclass(frozen=True)
class Extractor:
    """Images to features. `id` names the weights as well as the protocol, and the arithmetic where that is a GPU's:
    features of different ids never compare."""

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
def extract(images: Images, extractor: Extractor, workspace: Workspace | None = None) -> Features:
    """Return the features of images in one pass, the work shared among the processes; all of them get all of it.

    Only the pooled features and the logits are kept for each image; the spatial ones enter sums, and of the maps those
    of each class's latest image are kept.

    Raises:
        UserError: an image cannot be read, or its features are not finite; in all processes.
    """
    classes, reached = ClassDistances(None if extractor.no_maps else images.labels), 0

    def make(number: int) -> Arrays:
        nonlocal classes, reached
        start, stop = number * PART, min((number + 1) * PART, images.count)
        if start != reached:
            classes = _classes_before(images, extractor, start, stop)
        reached = stop
        return _part(images, extractor, classes, start, stop)

    parts = (workspace or Workspace()).parts(-(-images.count // PART), make)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("pool", "labels", "distances")}
    sums = (Moments.of_arrays(part) for part in parts) if not extractor.no_spatial else ()
    return Features(
        joined["pool"],
        None if extractor.no_spatial else sum(sums, Moments()).statistics(),
        None if extractor.no_logits else np.concatenate([part["logits"] for part in parts]),
        images.labels,
        class_diversity(joined["labels"], joined["distances"]),
    )


def _classes_before(images: Images, extractor: Extractor, start: int, stop: int) -> ClassDistances:
    """Return the distances within classes as they are before images `start` to `stop`."""
    classes = ClassDistances(None if extractor.no_maps else images.labels)
    latest = classes.before(start, stop)
    for first in range(0, len(latest), extractor.batch):
        some = latest[first : first + extractor.batch]
        maps = _outputs(np.stack([images.one(int(i)) for i in some]), extractor).perceptual
        assert maps is not None
        classes.remember(some, maps)
    return classes


def _part(images: Images, extractor: Extractor, classes: ClassDistances, start: int, stop: int) -> Arrays:
    """Return what images `start` to `stop` come to."""
    pools, logits, moments = Rows(stop - start), Rows(stop - start), Moments()
    for first, batch in enumerate(images.batches(extractor.batch, start, stop)):
        outputs = _outputs(batch, extractor)
        pools.add(outputs.pool)
        if outputs.spatial is not None:
            moments.update(outputs.spatial)
        if outputs.logits is not None:
            logits.add(outputs.logits)
        classes.update(start + first * extractor.batch, outputs.perceptual)
    arrays = {"pool": pools.array(), **classes.take()}
    if not extractor.no_logits:
        arrays["logits"] = logits.array()
    for kind, name in (("features", "pool"), ("logits", "logits")):
        if name in arrays:
            check_finite(arrays[name], f"{images.name}: {kind} of {extractor.id}", "nothing can be measured with them")
    return arrays if extractor.no_spatial else {**arrays, **moments.arrays()}


class Rows:
    """Rows (N, …) that come in batches. They are written into one tensor: many small ones, made between the network's
    large ones, would lie so that the memory of those could not be used again. It is on their device until all are
    there, so that nothing waits for a copy.
    """

    def __init__(self, count: int) -> None:
        """Make room for `count` rows once the first are there."""
        self.count, self.filled = count, 0
        self.rows: Tensor | None = None

    def add(self, batch: Tensor) -> None:
        """Add rows (n, …)."""
        if self.rows is None:
            self.rows = torch.empty(self.count, *batch.shape[1:], dtype=torch.float32, device=batch.device)
        self.rows[self.filled : self.filled + len(batch)] = batch
        self.filled += len(batch)

    def array(self) -> np.ndarray:
        """Return them all."""
        assert self.rows is not None
        return self.rows.cpu().numpy()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Have float32 mean float32 on a GPU, in products and convolutions; torch's default for these is TF32.

    Inception's pooled features would move by 6e-4 of their length. What was set is set again in the end.
    """
    with matmul_precision("highest"):
        yield


def arithmetic_of(device: torch.device) -> str:
    """Return what an extractor's id says of its arithmetic: nothing on processors, as ever."""
    return "" if device.type == "cpu" else f"-{device.type}-fp32"


def _outputs(batch: np.ndarray, extractor: Extractor) -> Outputs:
    with exact_arithmetic():
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
    where = torch.device(device)
    if name in FEATURES:
        request = FeatureRequest(dataset, data, cache, weights, where)
        made, origin = FEATURES[name](request), FEATURES.origin(name)
        if origin:
            known_as = f"{name}-{hashlib.sha256(f'{origin} {made.id}'.encode()).hexdigest()[:12]}"
            made = replace(made, id=known_as, name=name, foreign=True)
    elif timm.is_model(name.partition(".")[0]):  # a name may carry the tag of its weights
        made = _timm(name, weights, where)
    else:
        raise UserError(f"features '{name}' are unknown; legal: {', '.join(FEATURES)}, or a model of timm")
    return replace(made, id=made.id + arithmetic_of(where))


@dataclass(frozen=True)
class FeatureRequest:
    """For what features are wanted. weights: a file of the network's, where somebody named one."""

    dataset: str
    data: Path  # folder of the data sets
    cache: Path
    weights: Path | None
    device: torch.device


def _classifier(request: FeatureRequest) -> Extractor:
    dataset, data, cache, device = request.dataset, request.data, request.cache, request.device
    train, test = (load_images(dataset, split, data) for split in ("train", "test"))
    turned = train.classes == 1
    if turned:
        train, test = rotations(train), rotations(test)
    chosen = trained("classifier", recipe_of(dataset), train, test, cache)
    chosen.network.to(device)
    kind = "classifier of rotations" if turned else "classifier"
    note = f"{dataset} {kind}, {100 * chosen.record['accuracy']:.1f}% test accuracy"
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
    if dataset in READERS and isinstance(entry := READERS[dataset], RawDataSet) and entry.classifier:
        with user_error(f"data set {dataset}: its classifier", "a Recipe is expected", TypeError):
            return Recipe(**entry.classifier)
    if dataset.startswith(PREFIX):
        return OF_FOLDERS
    if dataset not in RECIPES:
        raise UserError(f"features 'classifier': no recipe for data set {dataset}; legal: {', '.join(RECIPES)}")
    return RECIPES[dataset]


def _inception(request: FeatureRequest) -> Extractor:
    weights, device = request.weights or inception.inception_weights(request.data), request.device
    network = inception.load_inception(weights)
    name = f"{INCEPTION}-{inception.trunk_hash(network)}"
    fast = inception.Inception(network).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    note = "torch-fidelity's Inception-v3 of 2015-12-05, 2048 pooled features"
    no_logits = "" if fast.last is not None else f"{weights.name} lacks Inception's last layer (its weights are zero)"
    return Extractor(name, note, fast, device, no_spatial="", no_logits=no_logits, no_maps="", name=INCEPTION)


FEATURES: Registry[Callable[[FeatureRequest], Extractor]] = Registry(
    "features", "network of features", {"classifier": _classifier, INCEPTION: _inception}
)


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
