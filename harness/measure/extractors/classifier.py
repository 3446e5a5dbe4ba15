"""A small classifier per data set whose pooled features stand for Inception's where images are tiny or grey."""

from pathlib import Path
from typing import Any

from torch import Tensor

from harness.data.datasets import ImageDataset
from harness.errors import UserError
from harness.measure.extractors.inception import Outputs
from harness.measure.metrics.diversity import perceptual
from harness.networks.supervised import Recipe, TrainedNetwork, resize, trained

RECIPES = {
    "digits": Recipe(side=16, steps=200, batch=64, shift=0.1, mirror=False),
    "fashion-mnist": Recipe(side=32, steps=1500, batch=128, shift=0.03, mirror=False),
    "cifar10": Recipe(side=32, steps=4000, batch=128, shift=0.12, mirror=True),
}


def outputs(classifier: TrainedNetwork, images: Tensor) -> Outputs:
    """Return the pooled features before the last layer, float32 (B, D), of uint8 images (B, C, H, W), and maps."""
    network: Any = classifier.network
    x, maps = network.forward_intermediates(resize(images, classifier.side))
    return Outputs(network.forward_head(x, pre_logits=True), perceptual=perceptual(maps))


def classifier(train: ImageDataset, test: ImageDataset, cache: Path) -> TrainedNetwork:
    """Return the classifier of a data set, training it if the cache does not hold it.

    Raises:
        UserError: no recipe for the data set, or a cache that is damaged or cannot be written.
    """
    return trained("classifier", recipe_of(train.name), train, test, cache)


def recipe_of(dataset: str) -> Recipe:
    """Return the recipe of a data set's classifier.

    Raises:
        UserError: it has none.
    """
    if dataset not in RECIPES:
        raise UserError(f"features 'classifier': no recipe for data set {dataset}; legal: {', '.join(RECIPES)}")
    return RECIPES[dataset]
