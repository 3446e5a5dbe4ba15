"""What is fetched is checked against its sums."""

from pathlib import Path

import numpy as np
import pytest
from support.raw_data import write_cifar10

from harness.commands.data_encode import get_by_name
from harness.data.fetch import check_latents, get_published
from harness.data.raw_files import PUBLISHED
from harness.data.to_bytes import decoder
from harness.errors import UserError


def test_fetch_checks_the_published_sums(tmp_path: Path) -> None:
    write_cifar10(tmp_path, "bin")
    published = PUBLISHED["cifar10"]["sums"]["data_batch_1.bin"]
    with pytest.raises(UserError, match=f"data_batch_1.bin: checksum .* {published[:12]}"):
        get_published("cifar10", tmp_path)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(root: str, download: bool) -> None:
        raise RuntimeError("no network\nhere")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", offline)
    with pytest.raises(UserError, match="downloaded: no network here; apt-get install dataset-fashion-mnist"):
        get_by_name("fashion-mnist", tmp_path)
    with pytest.raises(UserError, match="did you mean 'fashion-mnist'"):
        get_by_name("mnist", tmp_path)


def test_checksums_hold_latents_images_and_autoencoder(copied):
    folder = copied / "photos"
    assert "12 packed latents" in check_latents("photos", copied)
    weights = folder / "autoencoder" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(UserError, match=r"autoencoder: its sha256 is not the one in .*meta\.json; encode photos again"):
        decoder("photos", copied)
    for name in ("images.npy", "moments_flip.npy"):
        array = np.load(folder / name, mmap_mode="r+")
        array.flat[-1] += 1
        array.flush()
        with pytest.raises(UserError, match=r"\.npy: checksum .* is not the expected"):
            check_latents("photos", copied)
