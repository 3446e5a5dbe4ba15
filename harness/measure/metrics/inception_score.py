"""Inception Score, from the logits of Inception's classes."""

import numpy as np
import torch

SPLITS = 10
SEED = 2020


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
