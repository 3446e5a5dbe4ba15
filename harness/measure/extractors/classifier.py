"""A small classifier per data set whose pooled features stand for Inception's where images are tiny or grey."""

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Classifier(TrainedNetwork):
    """A network whose features are compared."""

    def outputs(self, images: Tensor) -> Outputs:
        """Return the pooled features before the last layer, float32 (B, D), of uint8 images (B, C, H, W), and maps."""
        x, maps = self.network.forward_intermediates(resize(images, self.side))  # type: ignore[operator]
        return Outputs(self.network.forward_head(x, pre_logits=True), perceptual=perceptual(maps))  # type: ignore[operator]

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features alone."""
        return self.outputs(images).pool


def classifier(train: ImageDataset, test: ImageDataset, cache: Path) -> Classifier:
    """Return the classifier of a data set, training it if the cache does not hold it.

    Raises:
        UserError: no recipe for the data set, or a cache that is damaged or cannot be written.
    """
    made = trained("classifier", recipe_of(train.name), train, test, cache)
    return Classifier(made.network, made.side, made.record)


def recipe_of(dataset: str) -> Recipe:
    """Return the recipe of a data set's classifier.

    Raises:
        UserError: it has none.
    """
    if dataset not in RECIPES:
        raise UserError(f"features 'classifier': no recipe for data set {dataset}; legal: {', '.join(RECIPES)}")
    return RECIPES[dataset]
