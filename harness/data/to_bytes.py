"""What a network draws to bytes: latents are decoded by the autoencoder that made them, and pixels rounded alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data import autoencoder, latents
from harness.data.finite import check_finite
from harness.data.raw_files import has_pixels
from harness.errors import UserError
from harness.files import sha256_of


def to_uint8(x: Tensor) -> np.ndarray:
    """Turn images in [−1, 1] into bytes as the public DiT and SiT code does: clamp(127.5·x + 128) and truncate.

    Raises:
        NotFinite: a pixel is no number, and no byte means that.
    """
    check_finite(x, "pixels")
    return (127.5 * x.float() + 128.0).clamp(0, 255).to("cpu", torch.uint8).numpy()


def decode_latents(z: Tensor, coder: autoencoder.Autoencoder, scale: float, group: int = 1) -> np.ndarray:
    """Return images uint8 (N, 3, H, W) of scaled latents (N, C, h, w).

    In groups of so many from the first on, for the last bits of a convolution depend on its batch: image i is the same
    where it is always the same one of the same group.

    Raises:
        NotFinite: a latent, or what it is decoded to.
    """
    check_finite(z, "latents")
    with torch.inference_mode():
        return to_uint8(torch.cat([coder.decode(some) for some in (z.float() / scale).split(group)]))


def decoder(dataset: str, root: Path, group: int = 1) -> Callable[[Tensor], np.ndarray]:
    """Return what turns samples (N, C, H, W) of a network trained on a data set into bytes: latents are decoded, in
    groups of so many.

    Raises:
        UserError: as `check_decoder`, or the autoencoder is not the one that made the latents.
    """
    sha256, folder = autoencoder_sha256(dataset, root), root / dataset / latents.AUTOENCODER
    if not sha256:
        return to_uint8
    files = autoencoder.find(folder)
    if sha256_of(*files.paths) != sha256:
        raise UserError(f"{folder}: its sha256 is not the one in {root / dataset}/meta.json; encode {dataset} again")
    scale = latents.read_meta(dataset, root).scale
    return partial(decode_latents, coder=autoencoder.load(files), scale=scale, group=group)


def autoencoder_sha256(dataset: str, root: Path) -> str:
    """Return the sha256 of the autoencoder that made a data set's latents; "" for a set of pixels.

    Raises:
        UserError: the packed folder names no autoencoder.
    """
    if has_pixels(dataset):
        return ""
    identity = latents.read_meta(dataset, root).autoencoder
    if identity is None:
        raise UserError(
            f"{root / dataset}/meta.json: no 'autoencoder', and so samples cannot be decoded; "
            "make it with: harness encode"
        )
    return identity.sha256


def check_decoder(dataset: str, root: Path) -> None:
    """Refuse latents that could not be decoded, before a network is trained on them.

    Raises:
        UserError: the packed folder holds no autoencoder, or the package that reads it is not installed.
    """
    if autoencoder_sha256(dataset, root):
        autoencoder.find(root / dataset / latents.AUTOENCODER)
