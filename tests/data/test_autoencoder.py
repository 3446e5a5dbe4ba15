"""Autoencoders: each kind of folder is recognised and read as its own library reads it."""

import json
import os
import shutil
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.photos import pack
from support.places import ROOT

from harness import plugins
from harness.data import autoencoder
from harness.data.datasets import LatentDataset, load, load_images
from harness.data.to_bytes import decoder, to_uint8
from harness.errors import UserError


def test_taesds_files_are_diffusers_tiny_autoencoder_and_have_no_posterior(tiny, photos, tmp_path):
    pack(photos, tiny[0], tmp_path)
    latents = load("photos", "train", tmp_path)
    assert isinstance(latents, LatentDataset)
    assert (latents.shape, latents.convention, latents.scale) == ((6, 4, 4), "mean", 1.0)
    assert latents.draw(3, torch.Generator()) == ()
    images = torch.tensor(load_images("photos", "train", tmp_path).images[:2]) / 127.5 - 1
    z, _ = latents.batch(np.arange(2), ())
    with torch.no_grad():
        np.testing.assert_allclose(z, tiny[1].encode(images).latents, atol=1e-5)
        expected = to_uint8(tiny[1].decode(z).sample)
    assert np.abs(decoder("photos", tmp_path)(z).astype(int) - expected).max() <= 1
    flips = load("photos", "train", tmp_path, flip=True)
    mirrored, _ = flips.batch(np.arange(2), (torch.tensor([False, True]),))
    with torch.no_grad():
        np.testing.assert_allclose(mirrored[1:], tiny[1].encode(images[1:].flip(-1)).latents, atol=1e-5)


def test_pipes_are_no_autoencoder(tmp_path):
    for name in ("x_encoder.pth", "x_decoder.pth"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="no autoencoder that is known"):
        autoencoder.find(tmp_path)


def test_taef2s_blocks_add_a_normalised_bottleneck():
    block = torch.nn.Module()
    block.conv, block.skip, block.fuse = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Identity(), torch.nn.ReLU()
    pooled, x = autoencoder.PooledBlock(block, 8), torch.randn(2, 8, 5, 5)
    first, last = pooled.pool[0].weight, pooled.pool[3].weight
    wide = torch.einsum("oi,nihw->nohw", first[:, :, 0, 0], x).reshape(2, 4, -1)  # four groups
    normal = (wide - wide.mean(-1, keepdim=True)) / (wide.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    x2 = x + torch.einsum("oi,nihw->nohw", last[:, :, 0, 0], normal.reshape(2, 32, 5, 5).relu())
    torch.testing.assert_close(pooled(x), (block.conv(x2) + x2).relu(), atol=1e-5, rtol=1e-5)


def test_a_plugin_brings_vaelight_which_sums_its_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    plugins.load_file(ROOT / "tests" / "support" / "vaelight.py", "--plugin")
    from support.vaelight import ONNX

    class Session:
        """Stands for a network: latents are pixels shrunk, bands are constants 1, 2, 4 and 8 of growing size."""

        def __init__(self, path, *_):
            self.encodes = path.name == "VAEencoder.onnx"

        def run(self, _, feeds):
            if self.encodes:
                return [F.avg_pool2d(torch.tensor(feeds["input"]), 8).numpy()[:, [0, 1, 2, 0]]]
            return [feeds["latent"][:, :3].repeat(k, -2).repeat(k, -1) * k for k in (1, 2, 4, 8)]

    for name in ONNX:
        (tmp_path / name).write_bytes(b"")
    onnxruntime = ModuleType("onnxruntime")
    onnxruntime.__spec__ = ModuleSpec("onnxruntime", None)
    onnxruntime.InferenceSession, onnxruntime.SessionOptions = Session, SimpleNamespace
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    coder = autoencoder.load(autoencoder.find(tmp_path))
    z = coder.encode(torch.full((2, 3, 32, 32), 0.5))
    assert (z.shape, coder.scale, coder.moments) == ((2, 4, 4, 4), 0.18215, "mean")
    torch.testing.assert_close(coder.decode(z), torch.full((2, 3, 32, 32), 0.5 * 15))


def test_folders_that_are_no_autoencoder_are_refused(kl, tiny, tmp_path, monkeypatch):
    def refused(folder, words):
        with pytest.raises(UserError, match=words) as raised:
            autoencoder.load(autoencoder.find(folder))
        assert "\n" not in str(raised.value)

    def edited(name, **changes):
        folder = shutil.copytree(kl[0], tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    refused(tmp_path, "no autoencoder that is known; legal: a folder in diffusers' format")
    refused(edited("unet", _class_name="UNet2DModel"), "_class_name 'UNet2DModel'")
    refused(edited("shifted", shift_factor=0.1), "shift_factor 0.1 is not supported")
    refused(edited("wider", latent_channels=5), "cannot be read as AutoencoderKL|mismatched tensors")
    refused(edited("deeper", layers_per_block=2), "missing tensors: ")
    cut = shutil.copytree(tiny[0], tmp_path / "cut")
    raw = (cut / "tae_decoder.pth").read_bytes()
    (cut / "tae_decoder.pth").write_bytes(raw[: len(raw) // 2])
    refused(cut, "tae_decoder.pth: not a file of tensors: ")
    torch.save({"1.weight": Trap()}, cut / "tae_decoder.pth")
    refused(cut, "tae_decoder.pth: not a file of tensors")
    missing = replace(autoencoder.AUTOENCODERS["TAE"], package="a_package_that_is_missing")
    monkeypatch.setitem(autoencoder.AUTOENCODERS.built_in, "TAE", missing)
    refused(tiny[0], r"needs a_package_that_is_missing: pip install -e '\.\[encode\]'")


class Trap:
    def __reduce__(self):
        return os.abort, ()
