"""What only labels make visible: FID class by class, and how much the images of one class differ from each other."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.measure.metrics.frechet import Statistics, frechet_distance, statistics

FINEST = 8  # maps are averaged down to this height and width: those of a thousand classes must fit beside each other


def perceptual(maps: Sequence[Tensor]) -> Tensor:
    """Return rows (B, P) whose squared distances are LPIPS's of the maps (B, C, H, W), with no learned weights.

    That is Σ_l mean_hw |â_l − b̂_l|² of channel vectors of length one (Zhang et al. 2018, eq. 1 with w = 1).
    """
    rows = []
    for x in maps:
        size = min(FINEST, x.shape[-1])
        x = F.normalize(F.adaptive_avg_pool2d(x.float(), size), dim=1, eps=1e-10)
        rows.append(x.flatten(1) / size)  # mean over size² positions, as a factor on both sides
    return torch.cat(rows, 1)


class ClassDistances:
    """Squared distances between successive images of each class, as they come by; of no class where none is known."""

    def __init__(self, labels: np.ndarray | None) -> None:
        self.labels = labels  # of all images (N,), whichever come by
        self.last: dict[int, Tensor] = {}
        self.found: dict[int, list[float]] = {}

    def before(self, start: int, stop: int) -> list[int]:
        """Return what a part of the images, `start` to `stop`, must know before it: the latest image of each class."""
        if self.labels is None:
            return []
        last = {label: i for i, label in enumerate(self.labels[:start].tolist())}
        return sorted(last[label] for label in set(self.labels[start:stop].tolist()) & set(last))

    def update(self, first: int, rows: Tensor | None) -> None:
        """Add images from the number `first` on by their rows of `perceptual` (B, P)."""
        if self.labels is None or rows is None:
            return
        for label, row in zip(self.labels[first : first + len(rows)].tolist(), rows.cpu(), strict=True):
            before, self.last[label] = self.last.get(label), row.clone()  # a view would keep the whole batch
            if before is not None:
                self.found.setdefault(label, []).append(float((row - before).square().sum()))


def class_diversity(parts: Sequence[dict[int, list[float]]]) -> float | None:
    """Mean over classes of the mean distance within each; None where no class has two images."""
    classes = sorted({label for part in parts for label in part})
    means = [np.mean([d for part in parts for d in part.get(label, ())]) for label in classes]
    return float(np.mean(means)) if means else None


def by_class(features: np.ndarray, labels: np.ndarray) -> dict[int, Statistics]:
    """Return the statistics of each class.

    Raises:
        UserError: as `Moments.statistics`.
    """
    return {int(label): statistics(features[labels == label]) for label in np.unique(labels)}


def class_fid(generated: dict[int, Statistics], reference: dict[int, Statistics]) -> dict[int, float]:
    """Return the Fréchet distance of each class that both have."""
    return {label: frechet_distance(generated[label], reference[label]) for label in generated if label in reference}


def too_few(labels: np.ndarray, features: int, whose: str) -> str:
    """Say why there is no FID by class: with no more images than features, a covariance is singular; "" if not so."""
    count, smallest = len(np.unique(labels)), int(np.unique(labels, return_counts=True)[1].min())
    if smallest > features:
        return ""
    return f"{whose}: {smallest} images in the smallest of {count} classes, and {features} features need more"
