"""What samples say without being compared: Inception Score, Vendi score, and the distances within a class."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.measure.metrics import frechet, neighbours

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


def vendi(features: np.ndarray) -> float:
    """Vendi score (Friedman & Dieng 2023): exp of the entropy of the eigenvalues of K/N, K_ij = cos(x_i, x_j).

    It is the number of samples that have nothing in common which would be as diverse. The non-zero eigenvalues of
    K = XXᵀ are those of XᵀX, which is (D, D).
    """
    parts = (neighbours.unit_rows(part) for part in np.array_split(features, len(features) // frechet.ROWS + 1))
    values = np.linalg.eigvalsh(sum(rows.T @ rows for rows in parts) / len(features))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


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
        self.distances: dict[int, list[float]] = {}

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
                self.distances.setdefault(label, []).append(float((row - before).square().sum()))


def class_diversity(parts: Sequence[dict[int, list[float]]]) -> float | None:
    """Mean over classes of the mean distance within each; None where no class has two images."""
    classes = sorted({label for part in parts for label in part})
    means = [np.mean([d for part in parts for d in part.get(label, ())]) for label in classes]
    return float(np.mean(means)) if means else None
