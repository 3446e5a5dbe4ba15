"""Measuring: each metric against an independent truth, and caches that are made once and never mistaken."""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from support.feature_metrics import fid, precision_recall

from harness.data.datasets import ImageDataset, load_images
from harness.errors import UserError
from harness.measure.evaluate import check_measurable, measure
from harness.measure.extractors import inception
from harness.measure.extractors.classifier import RECIPES, classifier
from harness.measure.extractors.extractor import Extractor, array_features, extractor
from harness.measure.extractors.inception import Outputs, get_inception
from harness.measure.metrics.kernel import kid, kid_subset_size
from harness.measure.metrics.validation import check_features
from harness.measure.reference import of_dataset
from harness.metric_definitions import DEFINITIONS, MEASURED, base
from harness.networks import supervised
from harness.networks.supervised import augment, build, fit, resize

rng = np.random.default_rng(0)


def correlated(n: int, d: int) -> np.ndarray:
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize(("n", "tolerance"), [(400, 1e-10), (20, 1e-5)])
def test_fid_is_that_of_scipys_matrix_root(n: int, tolerance: float) -> None:
    # With 20 rows in 32 dimensions the covariances are singular, where sqrtm itself has half the digits.
    x, y = correlated(n, 32), correlated(500, 32)
    (m, a), (w, b) = ((z.mean(0), np.cov(z.T)) for z in (x.astype(np.float64), y.astype(np.float64)))
    expected = ((m - w) ** 2).sum() + np.trace(a + b - 2 * np.real(scipy.linalg.sqrtm(a @ b)))
    assert fid(x, y) == pytest.approx(expected, rel=tolerance)


def test_fid_of_gaussians_in_closed_form() -> None:
    def exactly(mean: np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
        """Rows whose sample mean and covariance are the given ones, not only in expectation."""
        z = rng.normal(size=(n, len(mean)))
        z -= z.mean(0)
        return mean + z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T * np.sqrt(variance)

    mean, a, b = rng.normal(size=8), rng.uniform(0.1, 4, 8), rng.uniform(0.1, 4, 8)
    expected = (mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert fid(exactly(mean, a, 50), exactly(0 * mean, b, 90)) == pytest.approx(expected, rel=1e-10)


def test_equal_sets_are_at_no_distance() -> None:
    x = correlated(300, 16)
    assert fid(x, x) == pytest.approx(0, abs=1e-8 * np.trace(np.cov(x.T)))
    assert precision_recall(x, x) == (1, 1)


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


def test_kid_is_that_of_a_double_loop() -> None:
    x, y = rng.normal(size=(14, 5)), rng.normal(size=(12, 5)) + 0.5
    size = kid_subset_size(14, 12)
    assert size == 6
    assert kid_subset_size(50_000, 10_000) == 1000

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 5 + 1) ** 3

    subsets, found = np.random.RandomState(2020), []
    for _ in range(100):
        a, b = x[subsets.choice(14, size, False)], y[subsets.choice(12, size, False)]
        within = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(size) for j in range(size) if i != j)
        between = sum(kernel(p, q) for p in a for q in b)
        found.append(within / (size * (size - 1)) - 2 * between / size**2)
    assert kid(x, y) == pytest.approx((np.mean(found), np.std(found)), rel=1e-10)


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    x = correlated(10, 3)
    broken = x.copy()
    broken[[2, 5], 1] = np.nan
    for metric in (kid, lambda x, y: check_features(4, generated=x, reference=y)):
        with pytest.raises(UserError, match="generated features are not finite in 2 of 10 rows"):
            metric(broken, x)
        with pytest.raises(UserError, match="1 reference samples; this metric needs at least"):
            metric(x, x[:1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(data: Path) -> tuple[ImageDataset, ImageDataset]:
    return load_images("digits", "train", data), load_images("digits", "test", data)


def test_measuring_digits(data: Path, cache: Path, digits: tuple[ImageDataset, ImageDataset]) -> None:
    train, test = digits
    noise = rng.integers(0, 256, (200, 1, 8, 8), np.uint8)
    real, unreal = (measure(x, "digits", "train", "classifier", data, cache) for x in (test.images, noise))
    told = {*map(base, real["metrics"]), *real["unavailable"]}
    assert told == {*MEASURED, "kid_std"}
    assert set(real["unavailable"]) == {"sfid", "inception_score", "fid_infinity", "class_fid", "class_diversity"}
    for name in ("fid", "kid", "cmmd:classifier", "precision", "recall", "density", "coverage", "vendi"):
        lower = DEFINITIONS[base(name)].direction == "lower"
        assert (real["metrics"][name] < unreal["metrics"][name]) == lower, name
    assert real["metrics"]["fid"] < 1
    assert real["metrics"]["precision"] > 0.8
    protocol = json.loads(json.dumps(real))["protocol"]
    assert protocol["reference"] == "digits/train"
    assert protocol["reference_content"] == train.content[:12]
    assert (protocol["generated"], protocol["reference_count"], protocol["kid_subset_size"]) == (355, 1442, 177)
    record = json.loads(next(cache.glob("classifier-digits-*.json")).read_text())
    assert record["accuracy"] >= 0.97
    assert protocol["features_note"] == f"digits classifier, {100 * record['accuracy']:.1f}% test accuracy"
    assert protocol["features"].endswith(record["weights"][:12])
    with pytest.raises(UserError, match=r"samples of shape \(1, 9, 9\) cannot be measured on digits"):
        measure(np.zeros((9, 1, 9, 9), np.uint8), "digits", "train", "classifier", data, cache)


def test_classifier_is_trained_once(
    digits: tuple[ImageDataset, ImageDataset], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = digits
    first = classifier(train, test, cache)
    monkeypatch.setattr(supervised, "fit", lambda *_: pytest.fail("trained again"))
    again = classifier(train, test, cache)
    images = torch.from_numpy(np.array(test.images[:7]))
    assert torch.equal(first.features(images), again.features(images))
    assert first.features(images).shape == (7, 96)
    assert not again.network.training
    other = dataclasses.replace(train, content="of other images")
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        classifier(other, test, cache)
    with pytest.raises(UserError, match="no recipe for data set faces; legal: digits"):
        classifier(dataclasses.replace(train, name="faces"), test, cache)


def flip_a_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".json", lambda content: content[:40], "Unterminated|Expecting|Invalid"),
        (".json", lambda _: b"{}", "weights"),
        (".json", lambda _: b"[]", "list indices"),
        (".safetensors", lambda content: content[:-40], "sha256"),
        (".safetensors", flip_a_bit, "sha256"),
        (".safetensors", None, "No such file"),
    ],
)
def test_a_damaged_classifier_is_one_line_that_says_what_to_delete(
    digits: tuple[ImageDataset, ImageDataset],
    cache: Path,
    tmp_path: Path,
    suffix: str,
    damage: Callable[[bytes], bytes] | None,
    reason: str,
) -> None:
    classifier(*digits, cache)
    shutil.copytree(cache, tmp_path / "cache")
    record = next((tmp_path / "cache").glob("classifier-digits-*.json"))
    path = record.with_suffix(suffix)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        UserError, match=rf"^{path}: damaged \(.*({reason}).*\); delete {record}, and it is made again$"
    ):
        classifier(*digits, tmp_path / "cache")


def test_what_could_not_be_measured_is_refused_before_the_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_measurable("digits", "train", "classifier", data)
    monkeypatch.delitem(RECIPES, "digits")
    with pytest.raises(UserError, match="features 'classifier': no recipe for data set digits; legal: fashion-mnist"):
        check_measurable("digits", "train", "classifier", data)
    with pytest.raises(UserError, match=r"no weights at .*run: harness data get inception-v3-compat"):
        check_measurable("digits", "train", "inception-v3-compat", data)
    with pytest.raises(UserError, match="no split 'validation'; legal: train, test"):
        check_measurable("digits", "validation", "classifier", data)


def test_training_depends_on_neither_threads_nor_the_state_of_torch(digits: tuple[ImageDataset, ImageDataset]) -> None:
    recipe, threads = dataclasses.replace(RECIPES["digits"], steps=3), torch.get_num_threads()
    runs = []
    for seed, count in ((1, 1), (2, 2)):
        torch.set_num_threads(count)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        runs.append(fit(recipe, digits[0]).state_dict())
        assert torch.get_num_threads() == count
        assert torch.equal(torch.get_rng_state(), state)
    torch.set_num_threads(threads)
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_training_and_test_images_are_resized_alike(digits: tuple[ImageDataset, ImageDataset]) -> None:
    images = torch.from_numpy(np.array(digits[0].images[:5]))
    still = dataclasses.replace(RECIPES["digits"], shift=0, mirror=False)
    torch.testing.assert_close(augment(images, still), resize(images, still.side))
    mirrored = augment(images, dataclasses.replace(still, mirror=True))
    upright = resize(images, still.side)
    flips = [torch.allclose(m, u.flip(-1), atol=1e-5) for m, u in zip(mirrored, upright, strict=True)]
    assert all(f or torch.allclose(m, u, atol=1e-5) for f, m, u in zip(flips, mirrored, upright, strict=True))


def test_reference_features_are_cached_by_content_and_extractor(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    calls: list[int] = []

    def mean_pixel(x: torch.Tensor) -> Outputs:
        calls.append(len(x))
        return Outputs(x.float().mean((2, 3)))

    extract = Extractor("mean-a", "", mean_pixel, torch.device("cpu"))

    def features(dataset: ImageDataset, extract: Extractor) -> np.ndarray:
        manifold = of_dataset(dataset, extract, tmp_path).manifold
        assert manifold
        return manifold.features

    _, test = digits
    first, again = features(test, extract), features(test, extract)
    np.testing.assert_allclose(first, test.images.mean((2, 3)), rtol=1e-5)
    assert np.array_equal(first, again)
    assert sum(calls) == 355
    features(dataclasses.replace(test, content="0" * 64), extract)
    features(test, dataclasses.replace(extract, id="mean-b"))
    assert sum(calls) == 3 * 355
    cached = tmp_path / f"reference-digits-test-{test.content[:12]}-mean-a-features.npz"
    cached.write_bytes(cached.read_bytes()[:-8])
    with pytest.raises(UserError, match=rf"^{cached}: damaged \(.*\); delete {cached}, and it is made again$"):
        features(test, extract)
    cached.unlink()
    assert np.array_equal(features(test, extract), first)


class Trap:
    """Touches a file when somebody unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_unknown_features_and_missing_weights(data: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features 'vgg' are unknown; legal: classifier, inception-v3-compat"):
        extractor("vgg", "digits", data, cache)
    with pytest.raises(UserError, match=r"no weights at .*run: harness data get inception-v3-compat"):
        extractor("inception-v3-compat", "digits", data, cache)
    torch.save({"one": torch.zeros(1), "code": Trap(tmp_path / "owned")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="is not torch-fidelity's weights file: ") as raised:
        extractor("inception-v3-compat", "digits", data, cache, tmp_path / "bad.pth")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(UserError, match=r"imagenet256: not one of digits, .*harness encode PHOTOS imagenet256"):
        measure(np.zeros((4, 3, 8, 8), np.uint8), "imagenet256", "train", "classifier", data, cache)


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in the layout of the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    return path


def test_inception_takes_grey_images_and_is_named_by_its_trunk(
    data: Path, cache: Path, inception_weights: Path
) -> None:
    extract = extractor("inception-v3-compat", "digits", data, cache, inception_weights)
    grey = rng.integers(0, 256, (2, 1, 8, 8), np.uint8)
    features = array_features(grey, extract).pool
    assert features.shape == (2, 2048)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, array_features(np.repeat(grey, 3, axis=1), extract).pool)
    weights = torch.load(inception_weights)
    weights["fc.weight"].zero_()
    torch.save(weights, inception_weights)
    assert extractor("inception-v3-compat", "digits", data, cache, inception_weights).id == extract.id
    weights["Conv2d_1a_3x3.conv.weight"][0] += 1e-3
    torch.save(weights, inception_weights)
    assert extractor("inception-v3-compat", "digits", data, cache, inception_weights).id != extract.id


def test_the_copy_of_inception_that_is_there_is_recognised(
    inception_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = inception_weights.rename(tmp_path / "inception-v3-compat.pth")
    weights = torch.load(path)
    torch.save(weights | {name: torch.zeros_like(weights[name]) for name in ("fc.weight", "fc.bias")}, path)
    with pytest.raises(
        UserError, match=r"neither the published file \(sha256 .*expected 6726825d.*nor a known"
    ) as raised:
        get_inception(tmp_path)
    (trunk,) = re.findall(r"\((\w{12}), expected 64a9c03be395\); remove it", str(raised.value))
    monkeypatch.setattr(inception, "TRUNK", trunk)
    assert "not the published file: a copy with the known layers" in get_inception(tmp_path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    assert get_inception(tmp_path).endswith("already, the published file by its sha256")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not torch-fidelity's weights file: "):
        get_inception(tmp_path)


def test_classifiers_fit_their_images(digits: tuple[ImageDataset, ImageDataset]) -> None:
    for name, recipe in RECIPES.items():
        C, side = (3, 32) if name == "cifar10" else (1, 28)
        stand_in = dataclasses.replace(digits[0], images=np.zeros((2, C, side, side), np.uint8))
        out = build(recipe, stand_in).eval()(resize(torch.from_numpy(stand_in.images), recipe.side))
        assert out.shape == (2, 10)
