"""What a network draws to bytes: latents are decoded by the autoencoder that made them, and pixels rounded alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data import autoencoder
from harness.data.autoencoder import Autoencoder
from harness.data.latents import AUTOENCODER, AutoencoderIdentity, read_latent_meta
from harness.data.pixels import to_uint8
from harness.data.raw_files import READERS
from harness.errors import UserError


@dataclass(frozen=True)
class Decoder:
    """Scaled latents to bytes."""

    autoencoder: Autoencoder
    scale: float

    def __call__(self, x: Tensor) -> np.ndarray:
        """Return images uint8 (N, 3, H, W) of latents (N, C, h, w).

        One image at a time: the last bits of a convolution depend on its batch, and image i must not.
        """
        with torch.inference_mode():
            return np.concatenate([to_uint8(self.autoencoder.decode(z)) for z in (x.float() / self.scale).split(1)])


def decoder(dataset: str, root: Path) -> Callable[[Tensor], np.ndarray]:
    """Return what turns samples (N, C, H, W) of a network trained on a data set into bytes: latents are decoded.

    Raises:
        UserError: as `check_decoder`, or the autoencoder is not the one that made the latents.
    """
    if dataset in READERS:
        return to_uint8
    folder, recorded = root / dataset, _recorded_autoencoder(dataset, root)
    files = autoencoder.find(folder / AUTOENCODER)
    if files.sha256() != recorded.sha256:
        raise UserError(
            f"{folder / AUTOENCODER}: its sha256 is not the one in {folder}/meta.json; encode {dataset} again"
        )
    return Decoder(autoencoder.load(files), read_latent_meta(folder).scale)


def autoencoder_identity(dataset: str, root: Path) -> str:
    """Return twelve digits of the sha256 of the autoencoder that made a data set's latents; "" for a set of pixels.

    Raises:
        UserError: the packed folder names no autoencoder.
    """
    return "" if dataset in READERS else _recorded_autoencoder(dataset, root).sha256[:12]


def check_decoder(dataset: str, root: Path) -> None:
    """Refuse latents that could not be decoded, before a network is trained on them.

    Raises:
        UserError: the packed folder holds no autoencoder, or the package that reads it is not installed.
    """
    if autoencoder_identity(dataset, root):
        autoencoder.find(root / dataset / AUTOENCODER)


def _recorded_autoencoder(dataset: str, root: Path) -> AutoencoderIdentity:
    folder = root / dataset
    identity = read_latent_meta(folder).autoencoder
    if identity is None:
        raise UserError(
            f"{folder / 'meta.json'}: no 'autoencoder', and so samples cannot be decoded; make it with: harness encode"
        )
    return identity
