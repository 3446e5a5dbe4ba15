"""What a network draws is decoded by the autoencoder that made its latents."""

import json
import shutil

import numpy as np
import pytest
import torch

from harness.data import autoencoder
from harness.data.datasets import from_uint8
from harness.data.finite import NotFinite
from harness.data.to_bytes import check_decoder, decode_latents, decoder, to_uint8
from harness.errors import UserError
from harness.measure.evaluate import check_measurable


def test_bytes_are_clamped_and_truncated():
    x = torch.tensor([-9.0, -1.0, -0.997, -0.5, -1e-3, 0.0, 1 / 255, 0.0078, 0.5, 0.996, 0.997, 1.0, 9.0])
    assert to_uint8(x).tolist() == [0, 0, 0, 64, 127, 128, 128, 128, 191, 254, 255, 255, 255]
    assert to_uint8(x.bfloat16())[[0, 3, 5, 8, 12]].tolist() == [0, 64, 128, 191, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_becomes_no_byte(value):
    x = torch.zeros(3, 1, 2, 2)
    x[1, 0, 1, 1] = value
    with pytest.raises(
        NotFinite, match=r"pixels: 1 of 12 values are not finite \(the first is (nan|inf|-inf)\)"
    ) as raised:
        to_uint8(x)
    assert raised.value.row == 1
    coder = autoencoder.Autoencoder(torch.Tensor, lambda z: z.nan_to_num(), "mean", 1.0)  # which hides it
    with pytest.raises(NotFinite, match="latents: 1 of 12"):
        decode_latents(x, coder, 1.0)


def test_bytes_come_back_from_their_pixels():
    every = torch.arange(256, dtype=torch.uint8)
    assert to_uint8(from_uint8(every)).tolist() == every.tolist()


def test_samples_are_decoded_one_by_one_with_the_one_rounding(kl, packed):
    z = torch.randn(5, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    decode = decoder("photos", packed)
    with torch.no_grad():
        pixels = torch.cat([kl[1].decode(one / 0.18215).sample for one in z.split(1)])
    expected = np.floor(np.clip(127.5 * pixels.numpy() + 128, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(decode(z), expected)
    np.testing.assert_array_equal(np.concatenate([decode(z[:2]), decode(z[2:])]), expected)
    assert decoder("digits", packed) is to_uint8
    sizes = []  # a convolution's last bits depend on its batch
    coder = autoencoder.Autoencoder(torch.Tensor, lambda z: sizes.append(len(z)) or z, "mean", 1.0)
    decode_latents(z, coder, 1.0)
    decode_latents(z, coder, 1.0, group=2)
    assert sizes == [1] * 5 + [2, 2, 1]


def test_what_is_missing_is_refused_before_training(copied):
    measurement = ("photos", "train", "inception-v3-compat", copied)
    with pytest.raises(UserError, match=r"no weights at .*inception-v3-compat\.pth"):
        check_measurable(*measurement)
    (copied / "photos" / "images.npy").unlink()
    with pytest.raises(UserError, match=r"no images\.npy; encode it again with --keep-images"):
        check_measurable(*measurement)
    check_decoder("photos", copied)
    shutil.rmtree(copied / "photos" / "autoencoder")
    with pytest.raises(UserError, match="no autoencoder that is known; legal: a folder in diffusers' format"):
        check_decoder("photos", copied)
    meta = json.loads((copied / "photos" / "meta.json").read_text())
    del meta["autoencoder"]
    (copied / "photos" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="no 'autoencoder', and so samples cannot be decoded"):
        check_decoder("photos", copied)
