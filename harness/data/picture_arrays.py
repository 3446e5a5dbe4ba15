"""The pictures of a folder as arrays, in `<data>/.converted/folder-<identity>`, beside those of other data sets."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.photos import centre_crop
from harness.data.raw_files import write_arrays
from harness.errors import UserError, one_line, user_error
from harness.files import make_folder
from harness.picture_folder import SPLITS, Item, data_name, read_folder
from harness.pictures import open_picture

LARGEST = 1 << 32  # bytes of all pictures, cut and resized


def convert_folder(name: str, path: Path, share: float | None, size: int, root: Path) -> None:
    """Write the arrays of the data set `name`, of the pictures in `path`, where they are not in `root` yet.

    Raises:
        UserError: the pictures are others by now, too many, or one cannot be read; or `root` cannot be written.
    """
    folder = root / ".converted" / name
    if folder.is_dir():
        return
    pictures = read_folder(path, share)
    if data_name(pictures.content, size, pictures.channels) != name:
        raise UserError(f"{path}: its pictures have changed since this command began; give it again")
    if len(pictures.items) * pictures.channels * size**2 > LARGEST:
        raise UserError(f"{path}: more than {LARGEST >> 30} GiB at {size}×{size}; this is for small pictures")
    items = {split: [item for item in pictures.items if item.split == split] for split in SPLITS}
    splits = {split: _arrays(some, size, pictures.channels) for split, some in items.items()}
    with user_error(f"data set {name}: cannot write {folder}", "mend that, or name another --data", OSError):
        make_folder(folder, partial(write_arrays, splits=splits))


def _arrays(items: list[Item], size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((len(items), channels, size, size), np.uint8)
    for row, item in zip(images, items, strict=True):
        row[...] = _cut(item.path, size, channels)
    return images, np.array([item.label for item in items], np.int64)


def _cut(path: Path, size: int, channels: int) -> np.ndarray:
    """Return a picture, uint8 (channels, size, size), cut and resized as ADM prepares ImageNet."""
    try:
        with open_picture(path) as image:
            cut = centre_crop(image, size)
    except Exception as error:  # Pillow's readers fail in many ways
        raise UserError(f"{path}: cannot be read ({one_line(error)}); replace or remove it") from None
    return cut if channels == 3 else np.asarray(Image.fromarray(cut.transpose(1, 2, 0)).convert("L"))[None]
