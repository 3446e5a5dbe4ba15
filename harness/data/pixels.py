"""Bytes to pixels in [−1, 1], and back: the one rounding of every sample, drawn as pixels or decoded from latents."""

import numpy as np
import torch
from torch import Tensor


def from_uint8(images: Tensor) -> Tensor:
    """Return pixels u/127.5 − 1, float32 of the same shape."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> np.ndarray:
    """Turn images in [−1, 1] into bytes as the public DiT and SiT code does: clamp(127.5·x + 128) and truncate."""
    return (127.5 * x.float() + 128.0).clamp(0, 255).to("cpu", torch.uint8).numpy()


def flipped_where(chosen: Tensor, images: Tensor) -> Tensor:
    """Flip the `chosen`, bool (B,), of some images (B, C, H, W) left to right."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
