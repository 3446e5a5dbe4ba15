"""What a network draws is decoded by the autoencoder that made its latents."""

import json
import shutil

import numpy as np
import pytest
import torch

from harness.data import autoencoder
from harness.data import decode as vae
from harness.data.pixels import to_uint8
from harness.errors import UserError
from harness.measure.evaluate import check_measurable


def test_samples_are_decoded_one_by_one_with_the_one_rounding(kl, packed):
    z = torch.randn(5, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    decode = vae.decoder("photos", packed)
    with torch.no_grad():
        pixels = torch.cat([kl[1].decode(one / 0.18215).sample for one in z.split(1)])
    expected = np.floor(np.clip(127.5 * pixels.numpy() + 128, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(decode(z), expected)
    np.testing.assert_array_equal(np.concatenate([decode(z[:2]), decode(z[2:])]), expected)
    assert vae.decoder("digits", packed) is to_uint8
    sizes = []  # a convolution's last bits depend on its batch
    coder = autoencoder.Autoencoder(torch.Tensor, lambda z: sizes.append(len(z)) or z, "mean", 1.0)
    vae.Decoder(coder, 1.0)(z)
    assert sizes == [1] * 5


def test_what_is_missing_is_refused_before_training(copied):
    measurement = ("photos", "train", "inception-v3-compat", copied)
    with pytest.raises(UserError, match=r"no weights at .*inception-v3-compat\.pth"):
        check_measurable(*measurement)
    (copied / "photos" / "images.npy").unlink()
    with pytest.raises(UserError, match=r"no images\.npy; encode it again with --keep-images"):
        check_measurable(*measurement)
    vae.check_decoder("photos", copied)
    shutil.rmtree(copied / "photos" / "autoencoder")
    with pytest.raises(UserError, match="no autoencoder that is known; legal: a folder in diffusers' format"):
        vae.check_decoder("photos", copied)
    meta = json.loads((copied / "photos" / "meta.json").read_text())
    del meta["autoencoder"]
    (copied / "photos" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="no 'autoencoder', and so samples cannot be decoded"):
        vae.check_decoder("photos", copied)
