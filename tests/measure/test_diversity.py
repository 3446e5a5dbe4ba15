"""The Inception Score against torch-fidelity; it, the Vendi score and the distances within a class on known sets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_fidelity.metric_isc import isc_features_to_metric

from harness.measure.metrics.diversity import ClassDistances, class_diversity, inception_score, perceptual, vendi

rng = np.random.default_rng(0)


def test_vendi_score_is_the_number_of_different_samples() -> None:
    assert vendi(np.tile(np.eye(7), (30, 1))) == pytest.approx(7)
    assert vendi(np.ones((50, 4))) == pytest.approx(1)
    x = rng.normal(size=(40, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / 40)  # of the matrix of all pairs
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    assert vendi(x.astype(np.float32)) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()), rel=1e-5)


def test_the_distance_within_a_class_is_lpips_without_weights() -> None:
    maps = [torch.rand(9, 3, 4, 4), torch.rand(9, 5, 1, 1) - 0.5]
    labels = np.array([0, 1, 0, 0, 1, 2, 1, 0, 1])

    def lpips(i: int, j: int) -> float:
        total = 0.0
        for x in maps:
            H, W = x.shape[2:]
            for h in range(H):
                for w in range(W):
                    a, b = (x[k, :, h, w] / x[k, :, h, w].norm() for k in (i, j))
                    total += float(((a - b) ** 2).sum()) / (H * W)
        return total

    expected = {0: [lpips(0, 2), lpips(2, 3), lpips(3, 7)], 1: [lpips(1, 4), lpips(4, 6), lpips(6, 8)]}
    for cuts in ([9], [1] * 9, [4, 5]):
        whole, start = ClassDistances(labels), 0
        for size in cuts:
            whole.update(start, perceptual([x[start : start + size] for x in maps]))
            start += size
        found = whole.take()
        assert set(found["labels"]) == expected.keys()
        for label, distances in expected.items():
            assert found["distances"][found["labels"] == label] == pytest.approx(distances, rel=1e-5)
    mean = np.mean([np.mean(distances) for distances in expected.values()])
    assert class_diversity(**found) == pytest.approx(mean, rel=1e-5)
    assert class_diversity(**whole.take()) is None
    assert whole.before(4, 9).tolist() == [1, 3]  # class 2 has none before
    assert whole.before(4, 6).tolist() == [1]
    begun = ClassDistances(labels)
    begun.remember(begun.before(4, 9), perceptual([x[[1, 3]] for x in maps]))
    begun.update(4, perceptual([x[4:] for x in maps]))
    assert class_diversity(**begun.take()) == pytest.approx((expected[0][2] + np.mean(expected[1])) / 2, rel=1e-5)
    large = torch.rand(1, 2, 32, 32)
    assert torch.equal(perceptual([large]), perceptual([F.avg_pool2d(large, 4)]))


@pytest.mark.parametrize("n", [10, 95])
def test_inception_score_is_torch_fidelitys(n: int) -> None:
    logits = 3 * rng.normal(size=(n, 20)).astype(np.float32)
    theirs = isc_features_to_metric(torch.from_numpy(logits))
    assert inception_score(logits) == pytest.approx(tuple(theirs.values()), rel=1e-12)


def test_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    assert inception_score(np.zeros((40, 7)))[0] == pytest.approx(1)
    assert inception_score(100 * np.eye(4)[np.arange(4000) % 4])[0] == pytest.approx(4, rel=0.01)
