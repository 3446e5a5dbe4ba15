"""The metrics beside FID, each against another formula, a closed form, or sets made so that the answer is known."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from support.feature_metrics import fid
from support.places import ROOT

from harness.errors import UserError
from harness.measure.extractors.extractor import array_features, extractor
from harness.measure.metrics.diversity import ClassDistances, class_diversity, perceptual, vendi
from harness.measure.metrics.frechet import (
    Statistics,
    by_class,
    class_fid,
    enough,
    fid_by_count,
    fid_infinity,
    frechet_distance,
    statistics,
    too_few,
)
from harness.measure.metrics.kernel import cmmd
from harness.measure.metrics.neighbours import closest, manifold, memorised, mutual_share, neighbour_metrics
from harness.metric_definitions import (
    DEFINITIONS,
    MEASURED,
    OF_OTHER_FEATURES,
    definition_of,
    markdown,
    spread_of,
    with_features,
)

rng = np.random.default_rng(0)


def test_cmmd_is_that_of_a_double_loop() -> None:
    x, y = rng.normal(size=(13, 5)), 3 * rng.normal(size=(9, 5)) + 1
    unit = [[row / np.sqrt((row**2).sum()) for row in rows] for rows in (x, y)]

    def mean_kernel(a: list, b: list) -> float:
        return float(np.mean([np.exp(-((p - q) ** 2).sum() / (2 * 10**2)) for p in a for q in b]))

    a, b = unit
    expected = 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert cmmd(x, 7 * x) == pytest.approx(0, abs=1e-9)  # length does not count
    with pytest.raises(UserError, match="not finite"):
        cmmd(np.where(x == x[0], np.nan, x), y)


def test_vendi_score_is_the_number_of_different_samples() -> None:
    assert vendi(np.tile(np.eye(7), (30, 1))) == pytest.approx(7)
    assert vendi(np.ones((50, 4))) == pytest.approx(1)
    x = rng.normal(size=(40, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / 40)  # of the matrix of all pairs
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    assert vendi(x.astype(np.float32)) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()), rel=1e-5)


def test_fid_at_infinity_takes_the_bias_away() -> None:
    assert fid_infinity({n: 3 + 5 / n for n in (100, 200, 700)}) == pytest.approx(3)
    D, N = 10, 400
    real = Statistics(np.zeros(D), np.eye(D))
    left, raw = [], []
    for _ in range(6):  # of samples of the very law of the reference the truth is 0
        x = rng.normal(size=(N, D)).astype(np.float32)
        points = fid_by_count(x, real)
        assert points[N] == pytest.approx(frechet_distance(statistics(x), real), rel=1e-9)
        assert list(points) == np.linspace(40, N, 15).astype(int).tolist()
        left.append(fid_infinity(points))
        raw.append(points[N])
    assert np.mean(raw) > 0.05
    assert abs(np.mean(left)) < 0.15 * np.mean(raw)
    assert enough(N, 100)
    assert not enough(N - 1, 100)


def test_fid_by_class_is_the_fid_of_each_class() -> None:
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(90, 4)) + 1
    a, b = np.arange(60) % 3, np.arange(90) % 4
    found = class_fid(by_class(x, a), by_class(y, b))
    assert found == pytest.approx({label: fid(x[a == label], y[b == label]) for label in (0, 1, 2)})
    assert too_few(a, 19, "samples") == ""
    assert too_few(a, 20, "samples") == "samples: 20 images in the smallest of 3 classes, and 20 features need more"


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
        assert whole.distances.keys() == expected.keys()
        for label, distances in expected.items():
            assert whole.distances[label] == pytest.approx(distances, rel=1e-5)
    mean = np.mean([np.mean(distances) for distances in expected.values()])
    assert class_diversity([whole.distances]) == pytest.approx(mean, rel=1e-5)
    assert class_diversity([{}]) is None
    assert whole.before(4, 9) == [1, 3]  # class 2 has none before
    assert whole.before(4, 6) == [1]
    large = torch.rand(1, 2, 32, 32)
    assert torch.equal(perceptual([large]), perceptual([F.avg_pool2d(large, 4)]))


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


@pytest.mark.parametrize(
    ("name", "width"), [("test_vit.r160_in1k", 64), ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 512)]
)
def test_features_of_any_network_of_timm(tmp_path, name: str, width: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    made = extractor(name, "", tmp_path, tmp_path, tmp_path / "weights.pth")
    images = rng.integers(0, 256, (2, 3, 20, 20), np.uint8)
    found = array_features(images, made).pool
    cfg = network.pretrained_cfg
    x = torch.stack([torch.from_numpy(image).float() / 255 for image in images])
    x = F.interpolate(x, cfg["input_size"][1:], mode="bicubic", antialias=True)
    x = (x - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():  # CLIP's embedding is what timm has for its classes
        expected = network(x) if "clip" in name else network.forward_head(network.forward_features(x), pre_logits=True)
    assert found.shape == (2, width)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    grey = array_features(images[:, :1], made).pool
    np.testing.assert_allclose(grey, array_features(images[:, :1].repeat(3, 1), made).pool, rtol=1e-5, atol=1e-5)
    assert made.foreign
    with pytest.raises(UserError, match=r"weights.pth: not weights of test_resnet: "):
        extractor("test_resnet", "", tmp_path, tmp_path, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="features 'vit_nano' are unknown; legal: "):
        extractor("vit_nano", "", tmp_path, tmp_path)


def test_committed_page_is_the_table_of_definitions() -> None:
    page = ROOT / "docs" / "metrics.md"
    assert page.read_text() == markdown(), "make it again: python -m harness.metrics > docs/metrics.md"


def test_names_carry_their_features_and_have_definitions() -> None:
    assert with_features("fid", "vit") == "fd:vit"
    assert with_features("precision", "vit") == "precision:vit"
    assert definition_of("cmmd:classifier").title == "CMMD (classifier)"
    assert definition_of("something").title == "something"
    assert (spread_of("kd:vit"), spread_of("kid"), spread_of("fid")) == ("kd_std:vit", "kid_std", "")
    assert definition_of("kd:vit").title == "KD (vit)"
    assert definition_of("kd:vit").direction == "lower"
    assert {OF_OTHER_FEATURES.get(name, name) for name in MEASURED} <= DEFINITIONS.keys()
