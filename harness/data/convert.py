"""Raw files become arrays once, in `<root>/.converted/<name>/`; later starts only map them.

To convert changed raw files again, delete that folder.
"""

import hashlib
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from harness.data.cache import own_file
from harness.data.raw_files import FOLDERS, READERS, Arrays, raw_folder
from harness.errors import user_error
from harness.files import make_folder


class ConvertedMeta(BaseModel):
    """meta.json of converted arrays."""

    classes: int
    content: dict[str, str]  # split → `content_hash` of its images and labels


def convert(name: str, root: Path) -> Path:
    """Return the folder of the data set's arrays, written on first use; processes that do it at once do no harm.

    Raises:
        UserError: the raw files are missing (nothing is written then), or `root` cannot be written.
    """
    folder = root / ".converted" / name
    if folder.is_dir():
        return folder
    splits = READERS[name](root)
    with user_error(f"data set {name}: cannot write {folder}", "choose another data folder", OSError):
        make_folder(folder, lambda temporary: _write_arrays(temporary, splits))
    return folder


def check_raw(name: str, root: Path) -> None:
    """Look for a data set's raw files where it is not converted yet; nothing is read or written.

    Raises:
        UserError: they are missing.
    """
    if name in FOLDERS and not (root / ".converted" / name).is_dir():
        raw_folder(name, root)


def _write_arrays(folder: Path, splits: dict[str, Arrays]) -> None:
    for split, (images, labels) in splits.items():
        np.save(folder / f"{split}-images.npy", images)
        np.save(folder / f"{split}-labels.npy", labels)
    content = {split: content_hash(*arrays) for split, arrays in splits.items()}
    classes = int(max(labels.max() for _, labels in splits.values())) + 1
    (folder / "meta.json").write_text(ConvertedMeta(classes=classes, content=content).model_dump_json(indent=1))


def read_meta(folder: Path) -> ConvertedMeta:
    """Return what `convert` wrote beside the arrays.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / "meta.json"
    with own_file(path, folder):
        return ConvertedMeta.model_validate_json(path.read_bytes())


def content_hash(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays: type, shape and values of each, in this order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for block in np.array_split(array, max(1, array.nbytes >> 26)):  # 64 MB at a time: latents exceed the memory
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
