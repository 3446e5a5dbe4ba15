"""Bytes to pixels, and back."""

import torch

from harness.data.pixels import from_uint8, to_uint8


def test_bytes_are_clamped_and_truncated():
    x = torch.tensor([-9.0, -1.0, -0.997, -0.5, -1e-3, 0.0, 1 / 255, 0.0078, 0.5, 0.996, 0.997, 1.0, 9.0])
    assert to_uint8(x).tolist() == [0, 0, 0, 64, 127, 128, 128, 128, 191, 254, 255, 255, 255]
    assert to_uint8(x.bfloat16())[[0, 3, 5, 8, 12]].tolist() == [0, 64, 128, 191, 255]


def test_bytes_come_back_from_their_pixels():
    every = torch.arange(256, dtype=torch.uint8)
    assert to_uint8(from_uint8(every)).tolist() == every.tolist()
