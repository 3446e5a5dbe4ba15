"""Raw data sets as people keep them: digits, IDX files, CIFAR-10 batches.

They become arrays once, in `<root>/.converted/<name>/`; later starts only map these. To convert changed raw files
again, delete that folder.
"""

import gzip
import hashlib
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from harness.config.settings.data_settings import DATASETS
from harness.data import plain_pickle
from harness.data.cache import content_hash, own_file
from harness.errors import UserError, user_error
from harness.files import make_folder, open_file, read_yaml
from harness.picture_folder import PREFIX
from harness.plugins import Registry

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 (N, C, H, W), labels int64 (N,)

PUBLISHED: dict[str, dict[str, Any]] = read_yaml(Path(__file__).with_name("published.yaml"))
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SPLITS = ("train", "test")  # of each of these data sets
LARGEST = 1 << 28  # bytes of a file, decompressed
CLASSES = 10  # of each of these data sets
FIRST = 5000  # images of CIFAR-10 that a data set of their own is made of
CIFAR_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


def find_raw(name: str, root: Path) -> Path | None:
    """Return the first folder that holds a data set's raw files; None where there is none."""
    folders = [root / folder for folder in PUBLISHED[name]["folders"]]
    return next((folder for folder in folders if any(folder.glob(PUBLISHED[name]["file"]))), None)


def raw_folder(name: str, root: Path) -> Path:
    """Return the folder of a data set's raw files.

    Raises:
        UserError: there is none.
    """
    folder = find_raw(name, root)
    if folder is None:
        places = " or ".join(PUBLISHED[name]["folders"])
        raise UserError(f"data set {name}: no {places} in {root}; run: harness data get {name}")
    return folder


def read_digits(root: Path) -> dict[str, Arrays]:
    """Return scikit-learn's 1,797 digits, 8×8 grey levels 0…16 scaled to 0…255 and rounded; `root` is not needed.

    The archive has no split of its own. Here every fifth image of each class, in file order, is a test image: 1,442 for
    training and 355 for testing, every class in the same proportion, writers shared between the two.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    for c in range(10):
        test[np.flatnonzero(labels == c)[4::5]] = True
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}


def read_fashion_mnist(root: Path) -> dict[str, Arrays]:
    """Return Fashion-MNIST, 60,000 and 10,000 grey images of 28×28, from IDX files, plain or .gz.

    Raises:
        UserError: no such files, or a file that is not IDX.
    """
    folder = raw_folder("fashion-mnist", root)
    return {split: _idx_split(folder, *names) for split, names in IDX_FILES.items()}


def _idx_split(folder: Path, images: str, labels: str) -> Arrays:
    x, y = read_idx(folder / images), read_idx(folder / labels)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise UserError(f"{folder}: {images} has shape {x.shape} and {labels} {y.shape}; fetch both files again")
    return x[:, None], y.astype(np.int64)


def read_bytes(path: Path) -> bytes:
    """Return the content of `path`, or of `path`.gz decompressed.

    Raises:
        UserError: neither file can be read, or it holds more than any of these data sets.
    """
    packed = path.with_name(path.name + ".gz")
    with user_error(f"{path}[.gz]: cannot be read"), open_file(path if path.is_file() else packed) as file:
        content = (file if path.is_file() else gzip.GzipFile(fileobj=file)).read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"{path}[.gz]: more than {LARGEST >> 20} MiB, as no file of these data sets; fetch it again")
    return content


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an IDX file: two zero bytes, type 8, the number of axes, big-endian sizes, values.

    Raises:
        UserError: unreadable, truncated, or another type of value.
    """
    raw = read_bytes(path)
    zeros, kind, ndim = struct.unpack(">HBB", raw[:4].ljust(4, b"\xff"))
    start = 4 + 4 * ndim
    if zeros or kind != 8 or len(raw) < start:
        raise UserError(f"{path}: not an IDX file of bytes; fetch it again")
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    if len(raw) != start + math.prod(shape):
        raise UserError(f"{path}: {len(raw) - start} values where its header says {shape}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_cifar10(root: Path) -> dict[str, Arrays]:
    """Return CIFAR-10, 50,000 and 10,000 colour images of 32×32, from the binary or the Python batches.

    Raises:
        UserError: no such folder, or a batch that cannot be read.
    """
    folder = raw_folder("cifar10", root)
    read = _binary_batch if folder.name.endswith("-bin") else _python_batch
    return {split: _join([read(folder / name) for name in names]) for split, names in CIFAR_BATCHES.items()}


def read_first_of_cifar10(root: Path) -> dict[str, Arrays]:
    """Return the first 5,000 training images of CIFAR-10 and all 10,000 test images: of the batches two are enough.

    Raises:
        UserError: as `read_cifar10`.
    """
    folder = raw_folder("cifar10-5000", root)
    read = _binary_batch if folder.name.endswith("-bin") else _python_batch
    (images, labels), test = read(folder / "data_batch_1"), read(folder / "test_batch")
    return {"train": _join([(images[:FIRST], labels[:FIRST])]), "test": _join([test])}


def _join(batches: list[Arrays]) -> Arrays:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images).reshape(-1, 3, 32, 32), np.concatenate(labels).astype(np.int64)


def _binary_batch(path: Path) -> Arrays:
    """Return the images (N, 3072) and labels of records of one label byte and three planes."""
    raw = np.frombuffer(read_bytes(path.with_suffix(".bin")), np.uint8)
    if not raw.size or raw.size % 3073:
        raise UserError(f"{path}.bin: {raw.size} bytes are not records of 3073; fetch it again")
    records = raw.reshape(-1, 3073)
    return records[:, 1:], records[:, 0]


def _python_batch(path: Path) -> Arrays:
    with user_error(f"{path}: not a CIFAR-10 batch", "fetch it again"):
        batch = plain_pickle.loads(read_bytes(path))
        batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images, labels = batch["data"], batch["labels"]
        if not isinstance(images, np.ndarray) or not all(type(label) is int for label in labels):
            raise ValueError("no array of bytes under 'data', or no whole numbers under 'labels'")
        labels = np.array(labels, np.int64)
    if images.shape != (len(labels), 3072):
        raise UserError(f"{path}: images of shape {images.shape} for {len(labels)} labels; fetch it again")
    return images, labels


def check_labels(labels: np.ndarray, classes: int, where: str | Path) -> None:
    """Refuse labels (N,) that are no classes: whole numbers from 0 on.

    Raises:
        UserError: naming the first.
    """
    if labels.dtype.kind not in "iu":
        raise UserError(f"{where}: labels are {labels.dtype}; whole numbers from 0 to {classes - 1} are expected")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UserError(f"{where}: label {wrong[0]} among them; classes are 0 to {classes - 1}")


Reader = Callable[[Path], dict[str, Arrays]]  # folder of data sets → "train" and "test"


@dataclass(frozen=True)
class RawDataSet:
    """A data set as a plug-in brings it. classifier: what a `networks.supervised.Recipe` has, of the small network
    whose features measure samples of it; None where there is none."""

    read: Reader
    classifier: Mapping[str, Any] | None = None

    def __call__(self, root: Path) -> dict[str, Arrays]:
        """Return the splits; root: the folder of data sets, which may hold its files."""
        return self.read(root)


# Name of a data set → what reads its splits.
READERS: Registry[Reader] = Registry(
    "datasets",
    "data set",
    dict(zip(DATASETS, (read_digits, read_fashion_mnist, read_cifar10, read_first_of_cifar10), strict=True)),
)


def _check_arrays(splits: dict[str, Arrays], where: str) -> None:
    """Refuse what a plug-in gives that is no data set.

    Raises:
        UserError: what is expected.
    """
    if set(splits) != set(SPLITS):
        raise UserError(f"{where}: has {', '.join(splits) or 'nothing'}; train and test are expected")
    for split, (images, labels) in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
            found = f"images {images.dtype} {images.shape} and labels {labels.shape}"
            raise UserError(f"{where}: {split} has {found}; uint8 (N, C, H, W) and (N,) are expected")


def has_pixels(name: str) -> bool:
    """Tell whether a data set is of images that are converted on first use, and not packed latents."""
    return name in READERS or name.startswith(PREFIX)


class ConvertedMeta(BaseModel):
    """meta.json of converted arrays."""

    classes: int
    content: dict[str, str]  # split → `content_hash` of its images and labels


def convert(name: str, root: Path) -> tuple[Path, ConvertedMeta]:
    """Return the folder of the data set's arrays, written on first use; processes that do it at once do no harm.

    Raises:
        UserError: the raw files are missing (nothing is written then), `root` cannot be written, or what was written
            there is damaged.
    """
    folder, origin = root / ".converted" / name, READERS.origin(name)
    if origin:  # another version may read other images
        folder = folder.with_name(f"{name}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}")
    if not folder.is_dir() and name.startswith(PREFIX):
        raise UserError(f"data set {name}: its pictures are not in {folder}; 'harness run' or 'submit' puts them there")
    if not folder.is_dir():
        splits = READERS[name](root)
        if origin:
            _check_arrays(splits, f"data set {name} of {origin}")
        classes = 1 + max(int(labels.max()) for _, labels in splits.values()) if origin else CLASSES
        for split, (_, labels) in splits.items():
            check_labels(labels, classes, f"data set {name}: {split}")
        with user_error(f"data set {name}: cannot write {folder}", "mend that, or name another --data", OSError):
            make_folder(folder, lambda temporary: write_arrays(temporary, splits))
    path = folder / "meta.json"
    with own_file(path, folder):
        return folder, ConvertedMeta.model_validate_json(path.read_bytes())


def check_raw(name: str, root: Path) -> None:
    """Look for a data set's raw files where it is not converted yet; nothing is read or written.

    Raises:
        UserError: they are missing.
    """
    if name in PUBLISHED and not (root / ".converted" / name).is_dir():
        raw_folder(name, root)


def write_arrays(folder: Path, splits: dict[str, Arrays]) -> None:
    """Write the arrays of a data set's splits into a folder, and what `ConvertedMeta` says of them."""
    for split, (images, labels) in splits.items():
        np.save(folder / f"{split}-images.npy", images)
        np.save(folder / f"{split}-labels.npy", labels)
    content = {split: content_hash(*arrays) for split, arrays in splits.items()}
    classes = int(max(labels.max() for _, labels in splits.values())) + 1
    (folder / "meta.json").write_text(ConvertedMeta(classes=classes, content=content).model_dump_json(indent=1))
