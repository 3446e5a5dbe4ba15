"""What the tests of data share."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import SIZE, pack

from harness.data import raw_files as sources
from harness.data.datasets import load

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    load("digits", "train", root)
    return root


@pytest.fixture(autouse=True)
def no_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    published = sources.PUBLISHED["fashion-mnist"]
    monkeypatch.setitem(published, "folders", [folder for folder in published["folders"] if not folder.startswith("/")])


SIZES = [(40, 70), (100, 64), (32, 32), (33, 47), (140, 65), (64, 64), (35, 32), (51, 80), (32, 90), (45, 45),
         (64, 129), (70, 40)]  # fmt: skip


@pytest.fixture(scope="session")
def kl(tmp_path_factory):
    """Return the folder of a tiny AutoencoderKL with random weights, and the model."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = AutoencoderKL(block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4, sample_size=SIZE, **kinds)
    folder = tmp_path_factory.mktemp("vae")
    model.save_pretrained(folder)
    return folder, model.eval()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Twelve photos of several shapes and modes in three classes."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (width, height) in enumerate(SIZES):
        smooth = np.kron(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
        image = Image.fromarray(smooth[:height, :width].astype(np.uint8)).convert("L" if i == 4 else "RGB")
        path = folder / "abc"[i % 3] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    return folder


@pytest.fixture(scope="session")
def packed(kl, photos, tmp_path_factory):
    """Return a root whose `photos/` holds the packed latents; not to be written to."""
    root = tmp_path_factory.mktemp("data")
    pack(photos, kl[0], root)
    return root


@pytest.fixture
def copied(packed, tmp_path):
    shutil.copytree(packed / "photos", tmp_path / "photos")
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a folder of TAESD's two files with random weights, and diffusers' model with the same."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder, model = tmp_path_factory.mktemp("tae"), AutoencoderTiny(latent_channels=6).eval()
    for part, shift in (("encoder", 0), ("decoder", 1)):
        tensors = {}
        for name, tensor in getattr(model, part).layers.state_dict().items():
            number, _, rest = name.partition(".")
            tensors[f"{int(number) + shift}.{rest}"] = tensor
        torch.save(tensors, folder / f"tae_{part}.pth")
    return folder, model
