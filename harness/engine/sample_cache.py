"""Drawn images of a measurement, in a file beside its weights: who is stopped while it draws goes on where it was.

samples-<name>.bin    the pixels of leading whole tiles, uint8 (C, H, W), one image after the other
samples-<name>.json   how many of these images count, their checksum, and which weights they are of; written last

The file is written and not mapped while it grows: on a full disk a write fails, where a mapped page kills the process.
"""

import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.files import read_json, write_json

SECONDS = 10.0  # of drawing that a kill may cost; what is drawn in less is not recorded at all
BLOCK = 1 << 24
JOINED = 64  # images that are copied at once


@dataclass(frozen=True)
class SampleRecord:
    """What is known of the pixels of `images` images; `checksum` is zlib's crc32 of them, `weights` that of the file
    of the weights: its time would change with a move to another disk."""

    weights: int
    images: int = 0
    shape: tuple[int, ...] = ()
    checksum: int = 0
    nfe: int = 0
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that count."""
        return self.images * int(np.prod(self.shape))


class SampleFile:
    """Images that are kept in `folder` under a measurement's name, and belong to the file of their weights."""

    def __init__(self, folder: Path, name: str, weights: Path) -> None:
        self.folder, self.name, self.weights = folder, name, weights
        self.record_path = folder / f"samples-{name}.json"
        self.pixels_path = self.record_path.with_suffix(".bin")
        self.record = SampleRecord(0)  # its seconds are those of earlier attempts
        self.file: BinaryIO | None = None
        self.started = self.saved = time.monotonic()

    def begin(self) -> int:
        """Return how many images are there, whole and of these weights; what is not is removed.

        Raises:
            OSError: the folder cannot be written.
        """
        status = self.weights.stat()
        weights = _checksum_of_weights(self.weights, status.st_size, status.st_mtime_ns)
        self.record = self._read(weights) or SampleRecord(weights)
        if not self.record.images:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_samples(self.folder, self.name)
        self.file = self.pixels_path.open("r+b" if self.record.images else "wb")
        self.file.seek(self.record.size)
        return self.record.images

    def _read(self, weights: int) -> SampleRecord | None:
        """Read the record, if it and the pixels are whole and of these weights."""
        content = read_json(self.record_path)
        try:
            record = SampleRecord(**content | {"shape": tuple(content["shape"])})
            whole = record.weights == weights and _checksum(self.pixels_path, record.size) == record.checksum
        except (OSError, TypeError, KeyError):
            return None
        return record if whole and record.images else None

    def add(self, tiles: list[np.ndarray], nfe: int) -> None:
        """Write the next images, uint8 (n, C, H, W) each; every few seconds, save. nfe: what each image took.

        Raises:
            OSError: there is no room for them.
        """
        assert self.file
        pixels, record = np.ascontiguousarray(np.concatenate(tiles)), self.record
        assert record.shape in ((), pixels.shape[1:]), pixels.shape
        self.file.write(pixels.data)
        images, checksum = record.images + len(pixels), zlib.crc32(pixels.data, record.checksum)
        self.record = replace(record, images=images, shape=pixels.shape[1:], checksum=checksum, nfe=nfe)
        if time.monotonic() - self.saved > SECONDS:
            self.save()

    def save(self) -> None:
        """Bring the pixels to the disk, then the record of them.

        Raises:
            OSError: there is no room for them.
        """
        assert self.file
        self.file.flush()
        os.fsync(self.file.fileno())
        self.saved = time.monotonic()
        seconds = self.record.seconds + self.saved - self.started
        write_json(self.record_path, asdict(replace(self.record, seconds=seconds)))

    def images(self, first: int, count: int) -> np.ndarray:
        """Return `count` of the images from the first one on, uint8 (count, C, H, W), mapped from the file; nothing can
        be added after."""
        assert self.file
        self.file.close()
        shape = (self.record.images, *self.record.shape)
        return np.memmap(self.pixels_path, np.uint8, "r", shape=shape)[first : first + count]


def join(folder: Path, name: str, weights: Path, shards: Mapping[Path, int]) -> list[Path]:
    """Make the images of a measurement in `folder` of those of its shards, of which each folder holds so many.

    Return the folders of which some are not there, or damaged, which are removed; then nothing is made. Who was stopped
    goes on. The shards' images are removed when all are there.

    Raises:
        OSError: there is no room for them.
    """
    parts = [SampleFile(shard, name, weights) for shard, count in shards.items() if count]
    counts = [count for count in shards.values() if count]
    if lacking := [part for part, count in zip(parts, counts, strict=True) if part.begin() != count]:
        return [part.folder for part in lacking]
    whole, first = SampleFile(folder, name, weights), 0
    position = whole.begin()
    for part, count in zip(parts, counts, strict=True):
        if position <= first:
            whole.record = replace(whole.record, seconds=whole.record.seconds + part.record.seconds)
        pixels = part.images(0, count)
        for start in range(max(0, position - first), count, JOINED):
            whole.add([pixels[start : start + JOINED]], part.record.nfe)
        first += count
    whole.save()
    for part in parts:
        remove_samples(part.folder, name)
    return []


def has_images(folder: Path, name: str, images: int) -> bool:
    """Tell whether a measurement's record says that so many images are kept; whether they are whole, `join` looks."""
    record = read_json(folder / f"samples-{name}.json")
    return isinstance(record, dict) and record.get("images") == images


def kept_images(folder: Path, name: str, first: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return images (N, C, H, W) from the first one on, as `SampleFile.images` does, in a process that drew none."""
    return np.memmap(folder / f"samples-{name}.bin", np.uint8, "r", first * int(np.prod(shape[1:])), shape)


def saved_images(folder: Path) -> dict[str, int]:
    """Return how many images are kept in a folder, by the names of their records."""
    records = {path.name: read_json(path) for path in folder.glob("samples-*.json")}
    return {name: record.get("images", 0) for name, record in records.items() if isinstance(record, dict)}


def remove_samples(folder: Path, name: str) -> None:
    """Remove a measurement's kept images, the record first."""
    for suffix in ("json", "bin"):
        (folder / f"samples-{name}.{suffix}").unlink(missing_ok=True)


@cache
def _checksum_of_weights(path: Path, size: int, time: int) -> int:
    """Return the checksum of a file of weights, which may have gigabytes and is asked for by each shard; time: of its
    last change."""
    return _checksum(path, size)


def _checksum(path: Path, size: int) -> int:
    """Return the checksum of a file's first bytes, or of all where it has fewer."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(min(size, BLOCK)):
            checksum, size = zlib.crc32(block, checksum), size - len(block)
    return checksum
