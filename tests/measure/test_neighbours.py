"""Neighbourhoods against double loops and constructed sets: precision, recall, density, coverage, memorisation."""

import numpy as np
import pytest
import torch
from support.feature_metrics import precision_recall
from torch_fidelity.metric_prc import prc_features_to_metric

from harness.measure.metrics import pairs
from harness.measure.metrics.neighbours import across, closest, manifold, memorised, mutual_share, part_of

FIRST_ROWS = [0, 2, 12, 13, 14]
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
        return float(memorised(across(manifold(samples), known).nearest, known).mean())

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
    nearest = across(manifold(samples), known).nearest
    assert closest(nearest, known, 2).tolist() == [7, 31]
    assert nearest.index[[7, 31]].tolist() == [3, 20]
    copy = across(manifold(np.concatenate((samples, real[:1]))), known).nearest
    assert memorised(copy, known)[-1]


def test_neighbourhoods_are_those_of_double_loops() -> None:
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(40, 3)) + 0.5
    found = across(manifold(x), manifold(y)).shares

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
        return across(manifold(generated), manifold(wide)).shares

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
    assert not across(manifold(x), manifold(x)).nearest.distance.any()


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and parts of which none fits the sets, nor each other."""
    monkeypatch.setattr(pairs, "ROWS", 4)
    monkeypatch.setattr(pairs, "COLUMNS", 7)
    monkeypatch.setattr(pairs, "PART", 12)


def test_pairs_by_blocks_of_both_sides_are_those_of_every_pair(small_blocks):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 5)), rng.standard_normal((31, 5)).astype(np.float32)
    y[3] = 0  # of no direction

    def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a[:, None].astype(float) - b[None]) ** 2).sum(-1)

    def unit(a: np.ndarray) -> np.ndarray:
        return a.astype(float) / np.maximum(np.linalg.norm(a.astype(float), axis=1, keepdims=True), 1e-300)

    own, known = manifold(x), manifold(y)
    for made, features in ((own, x), (known, y)):
        d = squares(features, features) + np.where(np.eye(len(features)), np.inf, 0)
        np.testing.assert_allclose(made.radii, np.sort(d, 1)[:, :5], rtol=1e-6)
        assert np.array_equal(made.nearest, d.argmin(1))
        assert made.kernel == pytest.approx(np.exp(-squares(unit(features), unit(features)) / 200).mean(), rel=1e-12)
    found, d = across(own, known), squares(x, y)
    np.testing.assert_allclose(found.nearest.distance, d.min(1), rtol=1e-6)
    assert np.array_equal(found.nearest.index, d.argmin(1))
    assert found.kernel == pytest.approx(np.exp(-squares(unit(x), unit(y)) / 200).mean(), rel=1e-12)
    assert found.shares == {
        "precision": (d <= known.radii[:, 2]).any(1).mean(),
        "recall": (d <= own.radii[:, [2]]).any(0).mean(),
        "density": (d < known.radii[:, 4]).sum() / (5 * 23),
        "coverage": (d < known.radii[:, 4]).any(0).mean(),
    }


def test_a_part_of_the_reference_has_the_shares_and_all_of_it_the_nearest_and_the_kernel(small_blocks):
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(50, 3)) + 0.3
    rows = part_of(50, 20)
    assert rows is not None
    assert len(set(rows.tolist())) == 20
    assert rows[:5].tolist() == FIRST_ROWS  # on every machine
    assert part_of(50, None) is part_of(50, 50) is part_of(50, 60) is None
    own, whole, part = manifold(x), manifold(y), manifold(y[rows])
    found, of_all = across(own, whole, part), across(own, whole)
    assert found.shares == across(own, part).shares != of_all.shares
    assert np.array_equal(found.nearest.index, of_all.nearest.index)
    assert found.kernel == of_all.kernel
