"""What samples are measured against is made once for each content."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.datasets import ImageDataset
from harness.errors import UserError
from harness.measure.extractors.extractor import Extractor
from harness.measure.extractors.inception import Outputs
from harness.measure.images import of_split
from harness.measure.reference import of_images


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
