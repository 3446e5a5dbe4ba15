"""What samples are measured against is made once for each content."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.datasets import ImageDataset
from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor, Features
from harness.measure.extractors.inception import Outputs
from harness.measure.images import of_split
from harness.measure.metrics.frechet import covariance_fault
from harness.measure.reference import of_images, of_statistics, save_statistics


def test_reference_features_are_cached_by_content_and_extractor(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    calls: list[int] = []

    def mean_pixel(x: torch.Tensor) -> Outputs:
        calls.append(len(x))
        return Outputs(x.float().mean((2, 3)))

    extract = Extractor("mean-a", "", mean_pixel, torch.device("cpu"))

    def features(dataset: ImageDataset, extract: Extractor) -> np.ndarray:
        manifold = of_images(of_split(dataset), extract, tmp_path).manifold
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
    with pytest.raises(UserError, match=rf"^{cached}: damaged: .*; delete {cached}, and it is made again$"):
        features(test, extract)
    cached.unlink()
    assert np.array_equal(features(test, extract), first)


def test_a_short_reference_is_what_is_to_be_longer_and_a_long_name_is_no_fault(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    extract = Extractor("mean", "", lambda x: Outputs(x.float().mean((2, 3))), torch.device("cpu"))
    few = dataclasses.replace(of_split(digits[1]), count=5)
    with pytest.raises(UserError, match=r"^5 reference samples; neighbourhoods need at least 6: name a --reference of"):
        of_images(few, extract, tmp_path)
    long = dataclasses.replace(few, count=9, name="ä" * 127)  # 254 bytes
    assert of_images(long, extract, tmp_path).name == long.name


D = 6
EYE, MEAN = np.eye(D), np.zeros(D)
NEGATIVE = np.diag([-0.01] + [1.0] * (D - 1))
HOLE = np.where(EYE == 1, np.nan, EYE)
WRONG_STATISTICS = {
    "negative": (MEAN, NEGATIVE, "sigma is no covariance: it has directions of negative variance"),
    "negative within": (MEAN, EYE - 2 * np.full((D, D), 1 / D), "directions of negative variance"),
    "all negative": (MEAN, -EYE, "directions of negative variance"),
    "lopsided": (MEAN, EYE + np.triu(np.ones((D, D)), 1), "sigma is no covariance: it is not symmetric"),
    "NaN": (MEAN, HOLE, r"sigma: 6 of 36 values are not finite \(the first is nan\)"),
    "an infinite mean": (np.full(D, np.inf), EYE, "mu: 6 of 6 values are not finite"),
    "complex": (MEAN, EYE * 1j, "sigma is complex128; real numbers are expected"),
    "a complex mean": (MEAN.astype(complex), EYE, "mu is complex128"),
    "text": (MEAN, EYE.astype("U3"), "sigma is <U3"),
    "objects": (MEAN, EYE.astype(object), "sigma holds objects"),
    "cut": (MEAN, EYE[:5], r"sigma \(5, 6\); \(D,\) and \(D, D\) are expected"),
    "none": (MEAN[:0], EYE[:0, :0], r"mu \(0,\), sigma \(0, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_STATISTICS)
def test_statistics_that_are_none_are_refused_by_name(tmp_path: Path, what: str) -> None:
    mean, covariance, words = WRONG_STATISTICS[what]
    np.savez(tmp_path / "s.npz", mu=mean, sigma=covariance)
    extract = Extractor("mean", "", lambda x: Outputs(x.float().mean((2, 3))), torch.device("cpu"))
    with pytest.raises(UserError, match=rf"s\.npz: .*{words}") as raised:
        of_statistics(tmp_path / "s.npz", extract, tmp_path)
    assert "\n" not in str(raised.value)


def test_statistics_of_one_network_are_no_reference_for_another(tmp_path: Path) -> None:
    means = lambda x: Outputs(x.float().mean((2, 3)))  # noqa: E731
    ours, other = (Extractor(name, "", means, torch.device("cpu")) for name in ("mean-1", "mean-2"))
    features = Features(np.random.default_rng(0).normal(size=(9, D)).astype(np.float32))
    save_statistics(tmp_path / "s.npz", features, ours.id)
    reference = of_statistics(tmp_path / "s.npz", ours, tmp_path)
    np.testing.assert_allclose(reference.pool.covariance, np.cov(features.pool, rowvar=False), rtol=1e-5)
    with pytest.raises(UserError, match=r"s\.npz: its statistics are of 'mean-1', not of mean-2; name the same"):
        of_statistics(tmp_path / "s.npz", other, tmp_path)


def test_covariances_that_others_have_stored_are_taken() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(40, 200)) * rng.uniform(0.01, 3, 200)  # of fewer rows than features
    exact = np.cov(few, rowvar=False)
    assert np.linalg.eigvalsh(exact)[0] < 0  # by rounding
    assert covariance_fault(exact) == ""
    assert covariance_fault(np.cov(few.astype(np.float32), rowvar=False, dtype=np.float32).astype(float)) == ""
    half = exact.astype(np.float16)
    assert covariance_fault(half.astype(float), float(np.finfo(half.dtype).eps)) == ""
    assert covariance_fault(np.zeros((3, 3))) == ""
    assert covariance_fault(np.cov(rng.normal(size=(500, 20)), rowvar=False)) == ""


def test_features_that_are_not_finite_are_refused_before_they_are_kept(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    broken = Extractor("broken", "", lambda x: Outputs((x.float().mean((2, 3)) - 75).sqrt()), torch.device("cpu"))
    with pytest.raises(UserError, match=r"digits/test: features of broken: \d+ of 355 values are not finite"):
        of_images(of_split(digits[1]), broken, tmp_path)
    assert not list(tmp_path.glob("*.npz"))


def test_kept_features_that_are_not_finite_are_refused_by_their_file(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    extract = Extractor("mean", "", lambda x: Outputs(x.float().mean((2, 3))), torch.device("cpu"))
    of_images(of_split(digits[1]), extract, tmp_path)
    (path,) = tmp_path.glob("*-features.npz")
    np.savez(path, pool=np.full((355, 1), np.nan, np.float32))
    with pytest.raises(UserError, match=rf"{path}: pool: 355 of 355 values .*; delete it, and it is made again"):
        of_images(of_split(digits[1]), extract, tmp_path)


def test_neighbours_of_an_older_cache_are_made_again_with_what_they_lack(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    extract = Extractor("mean", "", lambda x: Outputs(x.float().mean((2, 3))), torch.device("cpu"))
    first = of_images(of_split(digits[1]), extract, tmp_path).manifold
    assert first
    (path,) = tmp_path.glob("*-neighbours.npz")
    np.savez(path, radii=first.radii, nearest=first.nearest)  # as before CMMD's kernel was kept
    again = of_images(of_split(digits[1]), extract, tmp_path).manifold
    assert again
    assert again.kernel == first.kernel
    assert set(np.load(path)) == {"radii", "nearest", "kernel"}
    assert not list(tmp_path.glob("*.parts"))
