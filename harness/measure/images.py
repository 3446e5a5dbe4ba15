"""Sets of images that are read batch by batch: arrays, splits of data sets, ADM's .npz, folders of pictures."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from harness.data.datasets import ImageDataset
from harness.errors import UserError, user_error
from harness.files import sha256_of
from harness.measure.npz import open_array, read_array
from harness.picture_files import picture_files
from harness.pictures import channels, open_picture, to_bytes
from harness.plain_text import escape_controls

ARRAY, LABELS = "arr_0", "arr_1"  # as ADM's suite names images and classes in an .npz


@dataclass(frozen=True)
class Images:
    """A set of images of one shape, in an order of its own."""

    name: str  # for people
    count: int
    shape: tuple[int, int, int]  # C, H, W
    content: str  # sha256 of what the images are made of
    read: Callable[[int, int], Iterable[np.ndarray]]  # (start, stop) → each image in turn, uint8 (C, H, W)
    labels: np.ndarray | None = None  # whole numbers (N,); None where nobody knows them
    held_out: str = ""  # why nothing can have memorised them; "" where it can
    left_out: str = ""  # the files of their folder that are no pictures

    def batches(self, size: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield images `start` to `stop` as uint8 (≤size, C, H, W), copies: torch takes no read-only memory.

        Raises:
            UserError: an image cannot be read.
        """
        images = iter(self.read(start, stop))
        while batch := list(islice(images, size)):
            yield np.array(batch)

    def one(self, index: int) -> np.ndarray:
        """Return one image, uint8 (C, H, W); as `batches`."""
        return next(self.batches(1, index, index + 1))[0]


def of_array(images: np.ndarray, name: str, content: str = "", labels: np.ndarray | None = None) -> Images:
    """Return the set of an array, uint8 (N, C, H, W), which may be mapped from a file."""
    assert images.dtype == np.uint8, images.dtype
    return Images(name, len(images), images.shape[1:], content, lambda start, stop: images[start:stop], labels)


def of_split(dataset: ImageDataset) -> Images:
    """Return the images of a split of a data set, with their labels."""
    name = f"{dataset.name}/{dataset.split}"
    images = of_array(dataset.images, name, dataset.content, dataset.labels)
    return images if dataset.split == "train" else replace(images, held_out=f"{name} is held out of training")


def of_path(path: Path) -> Images:
    """Return the images of an .npz or of a folder.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if path.is_dir():
        return of_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected an .npz of images or a folder of pictures")
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: neither an .npz nor a folder of pictures; np.savez writes an array as an .npz")
    names = npz_names(path)
    if ARRAY not in names:
        raise UserError(f"{path}: holds {', '.join(names) or 'nothing'}; images are expected under {ARRAY}")
    return of_npz(path)


def of_npz(path: Path) -> Images:
    """Return the images of an .npz as ADM's suite writes them: uint8 (N, H, W, C), or (N, H, W), under `arr_0`.

    They are read as they are wanted: 50,000 images of 256×256 are 10 GB. Labels are read from `arr_1`, where ADM's
    sampler writes them.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    with open_array(path, ARRAY) as (_, header):
        if header.fortran:
            raise ValueError("its images are in Fortran order")
    N, H, W, C = _layout(header.shape, header.dtype, f"{path}: {ARRAY}")
    labels = read_array(path, LABELS) if LABELS in npz_names(path) else None
    if labels is not None:
        _check_labels(labels, N, path)

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        with open_array(path, ARRAY) as (stream, _):
            stream.seek(stream.tell() + start * H * W * C)
            for i in range(start, stop):
                pixels = stream.read(H * W * C)
                if len(pixels) < H * W * C:
                    raise ValueError(f"it ends within image {i} of {N}")
                yield np.frombuffer(pixels, np.uint8).reshape(H, W, C).transpose(2, 0, 1)

    labels = None if labels is None else labels.astype(np.int64)
    return Images(escape_controls(path.name), N, (C, H, W), file_hash(path), read, labels)


def _check_labels(labels: np.ndarray, N: int, path: Path) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < 2**31)).all():
        what = f"{LABELS} is {labels.dtype} {labels.shape}"
        raise UserError(f"{path}: {what}; expected labels, whole numbers from 0, one for each image; or leave it out")
    if len(labels) != N:
        raise UserError(f"{path}: {ARRAY} has {N:,} images, and {LABELS} has {len(labels):,} labels; one each is legal")


def _layout(shape: tuple[int, ...], dtype: np.dtype, where: str) -> tuple[int, int, int, int]:
    """Return N, H, W, C of an array of images.

    Raises:
        UserError: it can be read as none, or in two ways.
    """
    sides, legal = by(shape), f"{where} is {dtype} {shape}; expected uint8 (N, H, W, 3), 0 to 255"
    if dtype != np.uint8:
        raise UserError(f"{legal}{_to_uint8(dtype)}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and not {shape[1], shape[3]} & {1, 3}):
        raise UserError(legal)
    if min(shape) < 1:
        raise UserError(f"{where} holds no images: its shape is {shape}")
    if readings := _two_readings(shape):
        raise UserError(f"{where} is {sides}: {' or '.join(readings)}; expected (N, H, W, C), in which it can mean one")
    if len(shape) == 4 and shape[3] not in (1, 3):
        raise UserError(f"{legal}: its channels come first, and transpose(0, 2, 3, 1) puts them last")
    N, H, W, C = (*shape, 1) if len(shape) == 3 else shape
    return N, H, W, C


def _to_uint8(dtype: np.dtype) -> str:
    """Return what makes bytes of values x of another type, for each thing that they may be."""
    advice = "; of {} np.round({}).astype('uint8') makes that"
    if dtype.kind == "f":
        return advice.format("floats from 0 to 1", "255 * x") + ", of those from -1 to 1 np.round(127.5 * (x + 1))"
    if dtype.kind == "b":
        return advice.format("false and true", "255 * x")
    deep = ", of those from 0 to 65,535 np.round(x / 257)" if dtype.kind in "iu" and dtype.itemsize > 1 else ""
    return advice.format("whole numbers from 0 to 255", "x") + deep if dtype.kind in "iu" else ""


def _two_readings(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return what an array of three or four axes may be where that is more than one thing."""
    if len(shape) == 3 and {shape[0], shape[2]} & {1, 3}:
        H, W = shape[:2] if shape[2] in (1, 3) else shape[1:]
        return f"{shape[0]} grey images of {by(shape[1:])} pixels", f"one image of {by((H, W))} pixels"
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] in (1, 3):
        last, first = by(shape[1:3]), by(shape[2:])
        return f"images of {last} pixels with their channels last", f"of {first} pixels with their channels first"
    return ()


def of_folder(folder: Path) -> Images:
    """Return the pictures of a folder and its sub-folders, by name; all grey ones make a set of one channel.

    Sizes and colours are checked from the files' headers, before any network runs.

    Raises:
        UserError: no pictures, pictures of different sizes, or one that is no grey or coloured bytes.
    """
    files = picture_files(folder)
    paths = files.paths
    if not paths:
        raise UserError(f"{folder}: no pictures in this folder or below it, and {files.left_out or 'no other files'}")
    sizes, colours = zip(*(_look(path) for path in paths), strict=True)
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise UserError(f"{path}: {by(size)} pixels, and {paths[0].name} has {by(sizes[0])}; sizes must be equal")
    C, (W, H) = max(colours), sizes[0]

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (_decode(path, C) for path in paths[start:stop])

    digest = hashlib.sha256()
    for name, path in zip(files.names, paths, strict=True):
        digest.update(os.fsencode(name) + bytes.fromhex(file_hash(path)))
    name, content = escape_controls(folder.name), digest.hexdigest()
    return Images(name, len(paths), (C, H, W), content, read, left_out=files.left_out)


def by(size: Iterable[int]) -> str:
    """Return a size as people write it: 256×256."""
    return "×".join(map(str, size))


def _look(path: Path) -> tuple[tuple[int, int], int]:
    """Return (width, height) and channels from a picture's header; what may be transparent is looked through."""
    with readable(path), open_picture(path) as picture:
        if picture.has_transparency_data:
            to_bytes(picture)
        return picture.size, channels(picture)


def _decode(path: Path, channels: int) -> np.ndarray:
    """Return a picture as uint8 (C, H, W)."""
    with readable(path), open_picture(path) as picture:
        mode = "L" if channels == 1 else "RGB"
        return np.atleast_3d(np.asarray(to_bytes(picture).convert(mode))).transpose(2, 0, 1)


def readable(path: Path) -> AbstractContextManager[None]:
    """Tell whatever goes wrong in reading somebody's file in one line that names it.

    Raises:
        UserError: it is missing, cut off, or not what it says that it is.
    """
    return user_error(f"{path}: cannot be read")


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of an .npz.

    Raises:
        UserError: the file cannot be read.
    """
    with readable(path), ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def file_hash(path: Path) -> str:
    """Return a file's sha256."""
    with readable(path):
        return sha256_of(path)
