"""Arrays of somebody's .npz: what a header declares is looked at before memory is taken for it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZipFile

import numpy as np

from harness.errors import user_error

BLOCK = 1 << 20
LARGEST = 1 << 29  # bytes that are read at once: a covariance of 8,192 features


@dataclass(frozen=True)
class ArrayHeader:
    """What an .npy says of its array."""

    shape: tuple[int, ...]
    fortran: bool  # the first axis varies fastest
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def open_array(path: Path, name: str) -> Iterator[tuple[IO[bytes], ArrayHeader]]:
    """Open an array of an .npz at its first value.

    Raises:
        UserError: the file cannot be read or lacks the array, or its values are objects, or fewer or more bytes than
            its header declares.
    """
    with user_error(f"{path}: cannot be read"), ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        header = _header(stream)
        size = archive.getinfo(f"{name}.npy").file_size - stream.tell()
        if header.dtype.hasobject:
            raise ValueError(f"{name} holds objects; arrays of numbers are read")
        if min(header.shape, default=0) < 0 or header.size != size:
            raise ValueError(f"{name} has {size:,} bytes of values, and declares {header.dtype} {header.shape}")
        yield stream, header


def read_array(path: Path, name: str) -> np.ndarray:
    """Return a whole array of an .npz.

    Raises:
        UserError: as `open_array`, or it is larger than any that is read whole.
    """
    with open_array(path, name) as (stream, header):
        if header.size > LARGEST:
            raise ValueError(f"{name} is {header.dtype} {header.shape}, more than {LARGEST >> 20} MiB")
        content, done = memoryview(bytearray(header.size)), 0
        while taken := stream.readinto(content[done : done + BLOCK]):  # type: ignore[attr-defined]
            done += taken
        values = np.frombuffer(content, header.dtype)
        return values.reshape(header.shape, order="F" if header.fortran else "C")


def _header(stream: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return ArrayHeader(*read(stream))
