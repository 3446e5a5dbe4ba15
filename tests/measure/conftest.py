"""What the tests of measuring share: the digits, and a cache in which their classifier is trained once a file."""

from pathlib import Path

import pytest

from harness.data.datasets import ImageDataset, load_images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(data: Path) -> tuple[ImageDataset, ImageDataset]:
    return load_images("digits", "train", data), load_images("digits", "test", data)
