"""Labelled photos as people keep them: a folder of images by class, or a Hugging Face data set."""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.errors import UserError, one_line, user_error
from harness.files import is_file, read_json
from harness.picture_files import class_folders, left_out, picture_files
from harness.pictures import MOST_PIXELS, open_picture, to_bytes
from harness.plain_text import escape_controls

SPLITS = {"train", "val", "validation", "test"}
LAYOUTS = "a folder of images for each class, a data set of Hugging Face's save_to_disk, or parquet files"


@dataclass(frozen=True)
class Photos:
    """Photos with labels, in an order that is always the same."""

    labels: np.ndarray  # int64 (N,)
    classes: tuple[str, ...]
    names: Sequence[str]  # what people call each photo: its path in the folder, or its row
    open: Callable[[int], AbstractContextManager[Image.Image]]  # as `open_picture` does
    left_out: str = ""  # the files beside them that are not of them

    def __len__(self) -> int:
        return len(self.labels)

    def listing(self) -> str:
        """Return the sha256 of all names and labels: two sources that differ in it are not the same."""
        lines = (f"{name} {label}\n" for name, label in zip(self.names, self.labels, strict=True))
        return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def open_photos(source: Path, cache: Path) -> Photos:
    """Recognise the layout of a folder of photos.

    Of parquet files, those called train-* where there are such; they are unpacked into `cache`.

    Raises:
        UserError: no such layout, more than one split, or photos without labels.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; photos are {LAYOUTS}")
    if (source / "dataset_dict.json").is_file():
        inside = ", ".join(sorted(path.parent.name for path in source.glob("*/state.json")))
        raise UserError(f"{source}: several splits of a data set; name the folder of one: {inside}")
    parquet = sorted(path for path in source.glob("*.parquet") if is_file(path) and not path.name.startswith("."))
    files = [path for path in parquet if path.name.startswith("train-")] or parquet
    if not files and not (source / "state.json").is_file():
        return _folder_photos(source)
    with user_error(f"{source}: reading this data set needs datasets", "pip install -e '.[encode]'", ImportError):
        import datasets

    with user_error(f"{source}: not a data set that can be read", "fetch or save it again"):
        if files:
            rows = datasets.Dataset.from_parquet([str(path) for path in files], cache_dir=str(cache))
        else:
            _check_saved(source)
            rows = datasets.load_from_disk(source)
    return _hub_photos(rows, source, left_out(path.name for path in parquet if path not in files))


def _check_saved(source: Path) -> None:
    """Refuse a saved data set whose list of files, or a link in it, leads out of its folder."""
    for path in source.iterdir():
        if path.is_symlink() and path.resolve().parent != source.resolve():
            raise UserError(f"{path}: a link that leads out of this data set; copy the file it means, or save it again")
    state = read_json(source / "state.json")
    files = state.get("_data_files") if isinstance(state, dict) else None
    entries = files if isinstance(files, list) else [None]
    for name in (entry.get("filename") if isinstance(entry, dict) else None for entry in entries):
        if not isinstance(name, str) or Path(name).name != name or not (source / name).is_file():
            shown = f"'{name}'" if isinstance(name, str) else "no list of files"
            raise UserError(f"{source}/state.json: {shown}; files of this folder are read; save the data set again")


def _folder_photos(source: Path) -> Photos:
    """The pictures below each folder of `source`, which is a class; classes by name, in the order of code points."""
    files, classes = picture_files(source), class_folders(source)
    if not classes:
        raise UserError(f"{source}: {len(files.names)} pictures and no folders of classes; photos are {LAYOUTS}")
    names = {name.lower() for name in classes}
    if names <= SPLITS or ("train" in names and len(names & SPLITS) > 1):  # "train" alone may be the vehicle
        raise UserError(f"{source}: splits, not classes: {', '.join(classes)}; name the folder of one split")
    number = {name: label for label, name in enumerate(classes)}
    owners = [name.partition("/")[0] for name in files.names]
    if empty := sorted(number.keys() - set(owners)):
        raise UserError(f"{source / empty[0]}: a class without pictures; add them, or remove the folder")
    if loose := [name for name in files.names if "/" not in name]:
        raise UserError(f"{source / loose[0]}: a picture beside the folders of classes; move it into one of them")
    labels = np.array([number[owner] for owner in owners], np.int64)
    opened = partial(_open_file, source, files.names)
    return Photos(labels, tuple(map(escape_controls, classes)), files.names, opened, files.left_out)


def _open_file(folder: Path, names: Sequence[str], index: int) -> AbstractContextManager[Image.Image]:
    return open_picture(folder / names[index])


def _hub_photos(rows: Any, source: Path, left_out: str = "") -> Photos:
    import datasets

    image, label = (_column(rows, kind, source) for kind in (datasets.Image, datasets.ClassLabel))
    labels, classes = np.array(rows[label][:], np.int64), tuple(rows.features[label].names)
    if len(labels) == 0 or labels.min() < 0:
        raise UserError(f"{source}: no rows, or rows whose {label} is hidden (−1); encode a split with labels")
    images = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    if named := sum(chunk.field("bytes").null_count for chunk in images.data.column(image).chunks):
        raise UserError(
            f"{source}: {named:,} rows of {image} name files, which could be anybody's, in the place of pictures; "
            "write it with save_to_disk, which takes the pictures in"
        )
    names = [f"row {i}" for i in range(len(labels))]
    return Photos(labels, classes, names, partial(_open_row, images, image), left_out)


def _open_row(rows: Any, column: str, index: int) -> AbstractContextManager[Image.Image]:
    """Open a photo from the row's bytes, whatever file it names."""
    return open_picture(rows[index][column]["bytes"])


def _column(rows: Any, kind: type, source: Path) -> str:
    columns = [name for name, feature in rows.features.items() if isinstance(feature, kind)]
    if len(columns) != 1:
        raise UserError(
            f"{source}: one column of type {kind.__name__} is expected, found {len(columns)} among "
            f"{', '.join(rows.features)}; cast or remove columns with the datasets package"
        )
    return columns[0]


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """Return the photo as ADM prepares ImageNet, uint8 (3, size, size).

    Halved by box averages while its shorter side is at least 2·size, then resized bicubically so that the shorter side
    is `size`, then cut to the centre (Dhariwal & Nichol 2021, guided-diffusion's image_datasets.py).

    Raises:
        ValueError: as `to_bytes`, or the photo is so narrow that it would become very long.
    """
    image = to_bytes(image).convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    ratio = size / min(image.size)
    width, height = round(image.width * ratio), round(image.height * ratio)
    if width * height > MOST_PIXELS:
        raise ValueError(f"too narrow: {image.width:,}×{image.height:,} pixels become {width:,}×{height:,}")
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def load_crops(photos: Photos, size: int, indices: Sequence[int]) -> Tensor | str:
    """Return the centre crops of some photos, uint8 (B, 3, size, size), or a line that says which cannot be read.

    They are contiguous: the last bits of the latents depend on it. An exception of a data loader's worker would come
    back as a page of traceback.
    """
    crops = []
    for index in indices:
        try:
            with photos.open(index) as image:
                crops.append(torch.from_numpy(centre_crop(image, size).copy()))
        except Exception as error:  # Pillow's readers fail in many ways
            return (
                f"{photos.names[index]}: cannot be read ({one_line(error)}); replace it and give the same command "
                "again, or remove both it and the folder of the unfinished latents"
            )
    return torch.stack(crops)
