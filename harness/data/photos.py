"""Labelled photos as people keep them: a folder of images by class, or a Hugging Face data set."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.errors import UserError, one_line, user_error
from harness.files import read_json

SPLITS = {"train", "val", "validation", "test"}
LAYOUTS = "a folder of images for each class, a data set of Hugging Face's save_to_disk, or parquet files"


@dataclass(frozen=True)
class Photos:
    """Photos with labels, in an order that is always the same."""

    labels: np.ndarray  # int64 (N,)
    classes: tuple[str, ...]
    names: Sequence[str]  # what people call each photo: its path in the folder, or its row
    open: Callable[[int], Image.Image]  # its pixels perhaps not read yet; what is no image raises as Pillow does

    def __len__(self) -> int:
        return len(self.labels)

    def listing(self) -> str:
        """Return the sha256 of all names and labels: two sources that differ in it are not the same."""
        lines = (f"{name} {label}\n" for name, label in zip(self.names, self.labels, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


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
    files = sorted(source.glob("train-*.parquet")) or sorted(source.glob("*.parquet"))
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
    return _hub_photos(rows, source)


def _check_saved(source: Path) -> None:
    """Refuse a saved data set whose list of files leads out of its folder."""
    state = read_json(source / "state.json")
    files = state.get("_data_files") if isinstance(state, dict) else None
    entries = files if isinstance(files, list) else [None]
    for name in (entry.get("filename") if isinstance(entry, dict) else None for entry in entries):
        if not isinstance(name, str) or Path(name).name != name or not (source / name).is_file():
            shown = f"'{name}'" if isinstance(name, str) else "no list of files"
            raise UserError(f"{source}/state.json: {shown}; files of this folder are read; save the data set again")


def _folder_photos(source: Path) -> Photos:
    from torchvision.datasets import ImageFolder

    with user_error(f"{source}: not a folder of classes", f"photos are {LAYOUTS}", (OSError, ValueError)):
        images = ImageFolder(str(source))
    if set(images.classes) <= SPLITS:
        raise UserError(f"{source}: splits, not classes: {', '.join(images.classes)}; name the folder of one split")
    names = [Path(path).relative_to(source).as_posix() for path, _ in images.samples]
    return Photos(np.array(images.targets, np.int64), tuple(images.classes), names, partial(_open_file, source, names))


def _open_file(folder: Path, names: Sequence[str], index: int) -> Image.Image:
    return Image.open(folder / names[index])


def _hub_photos(rows: Any, source: Path) -> Photos:
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
    return Photos(labels, classes, [f"row {i}" for i in range(len(labels))], partial(_open_row, images, image))


def _open_row(rows: Any, column: str, index: int) -> Image.Image:
    """Open a photo from the row's bytes, whatever file it names."""
    return Image.open(io.BytesIO(rows[index][column]["bytes"]))


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
    """
    image = image.convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    ratio = size / min(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
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
