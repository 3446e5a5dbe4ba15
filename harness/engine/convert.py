"""Raw files become arrays once, in `<root>/.converted/<name>/`; later starts only map them.

To convert changed raw files again, delete that folder.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.sources import (
    Arrays,
    cifar10_folder,
    fashion_mnist_folder,
    read_cifar10,
    read_digits,
    read_fashion_mnist,
)
from harness.errors import UserError

READERS: dict[str, Callable[[Path], dict[str, Arrays]]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
}
FINDERS: dict[str, Callable[[Path], Path]] = {"fashion-mnist": fashion_mnist_folder, "cifar10": cifar10_folder}


def convert(name: str, root: Path) -> Path:
    """Return the folder of the data set's arrays, written on first use; processes that do it at once do no harm.

    Raises:
        UserError: the raw files are missing (nothing is written then), or `root` cannot be written.
    """
    folder = root / ".converted" / name
    if folder.is_dir():
        return folder
    splits = READERS[name](root)
    temporary = folder.with_name(f"{name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        _write_arrays(temporary, splits)
        _publish(temporary, folder)
    except OSError as error:
        raise UserError(
            f"data set {name}: cannot write {folder}: {error.strerror}; choose another data folder"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_raw(name: str, root: Path) -> None:
    """Look for a data set's raw files where it is not converted yet; nothing is read or written.

    Raises:
        UserError: they are missing.
    """
    if name in FINDERS and not (root / ".converted" / name).is_dir():
        FINDERS[name](root)


def _write_arrays(folder: Path, splits: dict[str, Arrays]) -> None:
    for split, (images, labels) in splits.items():
        np.save(folder / f"{split}-images.npy", images)
        np.save(folder / f"{split}-labels.npy", labels)
    content = {split: content_hash(*arrays) for split, arrays in splits.items()}
    classes = int(max(labels.max() for _, labels in splits.values())) + 1
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "content": content}, indent=1))


def _publish(temporary: Path, folder: Path) -> None:
    """Rename a finished folder into place, unless another process was first."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what `convert` wrote beside the arrays: classes, and by split the sha256 of its content.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / "meta.json"
    with own_file(path, folder):
        meta = json.loads(path.read_text())
        return {"classes": int(meta["classes"]), "content": dict(meta["content"])}


@contextmanager
def own_file(path: Path, remove: Path) -> Iterator[None]:
    """Turn any failure to read a file that this package wrote into advice: without `remove` it is made again.

    Raises:
        UserError: the file is missing, cut off or otherwise damaged.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{path}: damaged ({reason}); delete {remove}, and it is made again") from None


def content_hash(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays: type, shape and values of each, in this order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for block in np.array_split(array, max(1, array.nbytes >> 26)):  # 64 MB at a time: latents exceed the memory
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
