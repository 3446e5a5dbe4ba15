"""Packed latents: what lies in their folder `<root>/<name>/`, and what its meta.json says. No torch here."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from harness.data.raw_files import READERS, check_labels
from harness.errors import UserError, user_error
from harness.files import read_model
from harness.plain_text import check_name

FILES = "moments.npy (N, 2C or C, H, W), labels.npy (N,) and meta.json"
MOMENTS, FLIPPED, IMAGES, LABELS = "moments.npy", "moments_flip.npy", "images.npy", "labels.npy"
AUTOENCODER = "autoencoder"  # folder of the autoencoder that made the latents
Convention = Literal["mean,logvar", "mean,std", "mean"]  # of the posterior; "mean" where it has no variance


class AutoencoderIdentity(BaseModel):
    """The autoencoder that made latents."""

    kind: str
    sha256: str


class LatentMeta(BaseModel):
    """meta.json, as far as it is read again. Written last: without it the folder is no data set."""

    scale: float = Field(gt=0, allow_inf_nan=False)  # latents × scale is what a diffusion model sees
    moments: Convention
    classes: int = Field(ge=1)
    sha256: str  # `content_hash` of the arrays of `open_arrays`
    images_sha256: str | None = None  # of images and labels; None where the images were not kept
    autoencoder: AutoencoderIdentity | None = None
    dtype: Literal["float16"] | None = None  # of the moments, where `harness encode` was asked for others than float32


def read_meta(name: str, root: Path, split: str = "train") -> LatentMeta:
    """Read the meta.json of packed latents, which are all of one split.

    Raises:
        UserError: no such data set or split, or a name that is a path; not JSON, a key is missing, or an unknown
            convention.
    """
    check_name("data set", name)
    path = root / name / "meta.json"
    if not path.is_file():
        raise UserError(
            f"data set {name}: not one of {', '.join(READERS)}, and {path.parent} lacks {FILES} (packed latents); make "
            f"them with: harness encode PHOTOS {name} --autoencoder FOLDER [--keep-images]"
        )
    if split != "train":
        raise UserError(f"data set {name}: packed latents have no split '{split}'; legal: train")
    return read_model(path, LatentMeta, f"packed latents are {FILES}")


def open_arrays(folder: Path, convention: Convention, classes: int) -> list[np.ndarray]:
    """Map moments, labels and, where they are, the moments of the flipped images.

    Raises:
        UserError: an array is missing, of another type, or does not fit the others; a label that is no class.
    """
    names = [MOMENTS, LABELS] + [FLIPPED] * (folder / FLIPPED).is_file()
    with user_error(f"{folder}: packed latents need {FILES}"):
        arrays = [np.load(folder / name, mmap_mode="r") for name in names]
    moments, labels = arrays[:2]
    odd = moments.ndim != 4 or (convention != "mean" and moments.shape[1] % 2)
    if odd or labels.shape != moments.shape[:1] or {a.shape for a in arrays[2:]} - {moments.shape}:
        raise UserError(f"{folder}: arrays of shapes {[a.shape for a in arrays]}; packed latents are {FILES}")
    for array in (moments, *arrays[2:]):
        if array.dtype.kind != "f" or not array.dtype.isnative:
            raise UserError(f"{folder}: moments are {array.dtype}; float16 or float32 is expected: encode again")
    check_labels(labels, classes, folder / LABELS)
    return arrays
