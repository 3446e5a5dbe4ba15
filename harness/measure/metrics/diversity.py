"""What samples say without being compared: Inception Score, Vendi score, and the distances within a class."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.measure.metrics import frechet
from harness.measure.workspace import CPU

SPLITS = 10  # of the Inception Score
SEED = 2020
FINEST = 8  # maps are averaged down to this height and width: those of a thousand classes must fit beside each other


def inception_score(logits: np.ndarray) -> tuple[float, float]:
    """exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016): mean and spread over ten splits of logits (N, classes).

    The splits are torch-fidelity's: of a permutation that is the same in every call. ADM's suite splits the images as
    they come, by 5,000; for 50,000 images in random order that is the same estimate from other splits.
    """
    scores = [_split_score(logits[rows]) for rows in splits(len(logits))]
    return float(np.mean(scores)), float(np.std(scores))


def splits(count: int) -> list[np.ndarray]:
    """Return the rows of each of the Inception Score's ten splits of `count` samples."""
    order = np.random.RandomState(SEED).permutation(count)
    return [order[i * count // SPLITS : (i + 1) * count // SPLITS] for i in range(SPLITS)]


def inception_score_of(logits: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean score of logits (N, classes) of which only some rows count; each stays in its split of all N."""
    return float(np.mean([_split_score(logits[np.intersect1d(split, rows)]) for split in splits(len(logits))]))


def _split_score(logits: np.ndarray) -> float:
    log_p = torch.from_numpy(logits).double().log_softmax(1)
    log_q = log_p.logsumexp(0) - np.log(len(logits))
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean().exp())


def vendi(features: np.ndarray, device: torch.device = CPU) -> float:
    """Vendi score (Friedman & Dieng 2023): exp of the entropy of the eigenvalues of K/N, K_ij = cos(x_i, x_j).

    It is the number of samples that have nothing in common which would be as diverse. The non-zero eigenvalues of
    K = XXᵀ are those of XᵀX, which is (D, D).
    """
    parts = (torch.from_numpy(part).to(device) for part in np.array_split(features, len(features) // frechet.ROWS + 1))
    units = (_unit_rows(part.double()) for part in parts)
    values = torch.linalg.eigvalsh(sum(rows.T @ rows for rows in units) / len(features))
    values = values[values > 0]
    return float(torch.exp(-(values * values.log()).sum()))


def _unit_rows(x: Tensor) -> Tensor:
    """Rows of length one; a row of zeros stays one."""
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


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
    """Squared distances between successive images of each class, as they come by; of no class where none is known.

    What is kept of earlier images is the latest of each class that has several, on the device where its maps are.
    """

    def __init__(self, labels: np.ndarray | None) -> None:
        self.labels = np.zeros(0, np.int64) if labels is None else labels  # of all images (N,), whichever come by
        _, slots, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        several = np.cumsum(counts > 1) - 1
        self.slots = np.where(counts > 1, several, -1)[slots]  # where in `latest` an image's class is; −1: nowhere
        self.seen = np.zeros(int((counts > 1).sum()), bool)
        self.latest = torch.zeros(0)
        self.found: list[tuple[np.ndarray, Tensor]] = []  # labels, and distances of images with those labels

    def before(self, start: int, stop: int) -> np.ndarray:
        """Return what a part of the images, `start` to `stop`, must know before it: the latest image of each class."""
        slots, first = np.unique(self.slots[:start][::-1], return_index=True)
        wanted = np.intersect1d(slots, self.slots[start:stop])
        return np.sort(start - 1 - first[np.isin(slots, wanted[wanted >= 0])])

    def remember(self, images: np.ndarray, rows: Tensor) -> None:
        """Take some images, by their numbers (B,), of different classes, for the latest of these; rows: (B, P)."""
        slots = self.slots[images]
        kept = slots >= 0
        if kept.any():
            if not len(self.latest):
                self.latest = rows.new_empty(len(self.seen), rows.shape[1])
            self.latest[slots[kept]] = rows[kept]
            self.seen[slots[kept]] = True

    def update(self, first: int, rows: Tensor | None) -> None:
        """Add images from the number `first` on by their rows of `perceptual` (B, P)."""
        if not len(self.seen) or rows is None:
            return
        slots = self.slots[first : first + len(rows)]
        order = np.argsort(slots, kind="stable")
        same = slots[order[1:]] == slots[order[:-1]]
        before = np.full(len(slots), -1)  # the row of the batch that is the latest of its class
        before[order[1:][same]] = order[:-1][same]
        images = np.flatnonzero((slots >= 0) & ((before >= 0) | self.seen[slots]))
        if len(images):
            within = before[images] >= 0
            previous = rows[before[images]]
            if not within.all():
                previous[~within] = self.latest[slots[images[~within]]]
            self.found.append((self.labels[first + images], (rows[images] - previous).square().sum(1)))
        last = order[np.append(~same, True)]
        self.remember(first + last, rows[last])

    def take(self) -> dict[str, np.ndarray]:
        """Return labels (n,) and distances (n,) that were found since this was asked last."""
        found, self.found = self.found, []
        labels, distances = zip(*found, strict=True) if found else ((self.labels[:0],), (torch.zeros(0),))
        return {"labels": np.concatenate(labels), "distances": torch.cat(distances).double().cpu().numpy()}


def class_diversity(labels: np.ndarray, distances: np.ndarray) -> float | None:
    """Mean over classes of the mean distance within each: labels (n,), distances (n,); None where there are none."""
    means = [distances[labels == label].mean() for label in np.unique(labels)]
    return float(np.mean(means)) if means else None
