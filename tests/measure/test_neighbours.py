"""Neighbourhoods against double loops and constructed sets: precision, recall, density, coverage, memorisation."""

import numpy as np
import pytest
import torch
from support.feature_metrics import precision_recall
from torch_fidelity.metric_prc import prc_features_to_metric

from harness.measure.metrics import neighbours
from harness.measure.metrics.neighbours import closest, distances, manifold, memorised, mutual_share, neighbour_metrics

rng = np.random.default_rng(0)


def test_a_mode_collapse_has_precision_and_no_recall() -> None:
    collapsed, wide = 0.1 * rng.normal(size=(300, 4)), rng.normal(size=(400, 4))
    precision, recall = precision_recall(collapsed, wide)
    assert precision > 0.95
    assert recall < 0.05
    assert precision_recall(wide, collapsed) == (recall, precision)


def test_precision_is_that_of_a_double_loop() -> None:
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 1

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(c - other) for other in centres)[3] for c in centres]  # [0] is itself
        hits = [any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
        return sum(hits) / len(hits)

    assert precision_recall(x, y) == pytest.approx((inside(x, y), inside(y, x)))


def test_memorised_samples_are_found() -> None:
    real = rng.normal(size=(1500, 3))
    known = manifold(real)

    def share(samples: np.ndarray) -> float:
        return float(memorised(neighbour_metrics(manifold(samples), known)[1], known).mean())

    assert share(real[:100]) == 1
    assert share(real[:100] + 1e-6) == 1
    assert share(rng.normal(size=(100, 3)) + 50) == 0
    fresh = share(rng.normal(size=(1500, 3)))
    assert fresh == pytest.approx(mutual_share(known), abs=0.05)
    lengths = np.linalg.norm(real[:, None] - real[None], axis=2) + np.where(np.eye(1500), np.inf, 0)
    nearest = lengths.argmin(1)
    assert mutual_share(known) == pytest.approx((nearest[nearest] == np.arange(1500)).mean())


def test_the_closest_pairs_are_the_planted_ones() -> None:
    real, samples = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    samples[[7, 31]] = real[3], real[20] + 1e-3
    known = manifold(np.concatenate((real, real[:1])))  # two training images that are the same
    nearest = neighbour_metrics(manifold(samples), known)[1]
    assert closest(nearest, known, 2).tolist() == [7, 31]
    assert nearest.index[[7, 31]].tolist() == [3, 20]
    copy = neighbour_metrics(manifold(np.concatenate((samples, real[:1]))), known)[1]
    assert memorised(copy, known)[-1]


def test_neighbourhoods_are_those_of_double_loops() -> None:
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(40, 3)) + 0.5
    found = neighbour_metrics(manifold(x), manifold(y))[0]

    def lengths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[np.linalg.norm(p - q) for q in b] for p in a])

    radius = np.sort(lengths(y, y), 1)[:, 5]
    inside = lengths(x, y) < radius
    assert found["density"] == pytest.approx(inside.sum() / (5 * 50))
    assert found["coverage"] == pytest.approx(inside.any(0).mean())
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    theirs = prc_features_to_metric(a, b, prc_neighborhood=3, save_cpu_ram=False, prc_batch_size=100, verbose=False)
    assert (found["precision"], found["recall"]) == pytest.approx((theirs["precision"], theirs["recall"]))


def test_known_answers_of_constructed_sets() -> None:
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(600, 4))

    def found(generated: np.ndarray) -> dict[str, float]:
        return neighbour_metrics(manifold(generated), manifold(wide))[0]

    tight = found(0.1 * rng.normal(size=(500, 4)))
    assert tight["precision"] > 0.95
    assert tight["recall"] < 0.05
    assert tight["density"] > 1
    assert tight["coverage"] < 0.2
    far = found(wide + 100)
    assert set(far.values()) == {0}
    copies = found(wide)  # each ball then holds its centre and k − 1 others
    assert copies == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    same_law = found(rng.normal(size=(600, 4)))
    assert same_law["density"] == pytest.approx(1, abs=0.1)
    assert same_law["coverage"] == pytest.approx(1 - 0.5**5, abs=0.03)  # Naeem et al. 2020, of as many of each


def test_a_set_of_equal_samples_far_from_the_origin_is_one_point() -> None:
    point = np.tile(rng.normal(size=7) + 1000, (10, 1))
    assert precision_recall(point, point) == (1, 1)
    assert precision_recall(point + 1e-2, point) == (0, 0)
    x = rng.normal(size=(300, 7)) + 1000
    assert all(not d.diagonal().any() for _, d in distances(x, x))


def test_distances_by_parts_of_both_sides_are_those_of_every_pair(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 4)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 5)), rng.standard_normal((31, 5)).astype(np.float32)
    for unit, rows_of in ((False, np.float64), (True, neighbours.unit_rows)):
        slices, parts = zip(*neighbours.distances(x, y, unit), strict=True)
        assert [part.start for part in slices] == list(range(0, 23, 4))
        pairs = ((rows_of(x)[:, None] - rows_of(y)[None]) ** 2).sum(-1)
        np.testing.assert_allclose(torch.cat(parts).numpy(), pairs, rtol=1e-6)
