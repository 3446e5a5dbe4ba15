"""Data sets of somebody else: read as what they hold, or refused in a line, in as little memory as any input."""

import io
import json
import pickle
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from support.fuzzing import Content, bounded, mutated, spliced
from support.raw_data import write_cifar10

from harness.data.photos import load_crops, open_photos
from harness.data.raw_files import read_cifar10
from harness.errors import UserError
from harness.pictures import MOST_PIXELS, open_picture, to_bytes

pytestmark = pytest.mark.fuzz
SIDE = 16
PICTURES = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
OBJECTS = (
    {"data": np.ndarray((1,), "O"), "labels": [0]}, {"data": np.zeros((2, 3072), np.uint8), "labels": [0, "x"]},
    {"data": np.zeros((2, 3072), np.float64), "labels": [0, 1]}, {"labels": range(9)}, [], Path("x"), len,
    {"data": np.zeros((1, 3072), np.uint8)[::-1].T, "labels": [2**70]},
)  # fmt: skip


def pickles(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return pickles of other things, and torn ones."""
    numbers = st.sampled_from([1, 2**31 - 1, 2**40])
    long = st.tuples(st.sampled_from((b"\x8e", b"B", b"\x8b", b"j")), numbers).map(
        lambda drawn: Content(b"\x80\x04" + drawn[0] + struct.pack("<Q", drawn[1]) + b"x.")
    )
    others = st.sampled_from([Content(pickle.dumps(value, protocol=4)) for value in OBJECTS])
    return spliced(whole) | others | long | st.sampled_from(OBJECTS).map(pickle.dumps).flatmap(spliced)


def test_a_batch_of_cifar_is_bytes_or_refused(tmp_path: Path, explore: Any) -> None:
    write_cifar10(tmp_path, "py")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with bounded(), suppress(UserError):
            for images, labels in read_cifar10(tmp_path).values():
                assert images.dtype == np.uint8
                assert images.shape == (len(labels), 3, 32, 32)

    explore(check, pickles(path.read_bytes()), 200)


def png_of(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def save_hub(folder: Path) -> None:
    import datasets

    rows = {"image": [{"bytes": png_of(pixels), "path": None} for pixels in PICTURES], "label": [0, 1] * 3}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    rows = datasets.Dataset.from_dict(rows, features=features)
    rows.save_to_disk(folder / "saved")
    (folder / "parquet").mkdir()
    rows.to_parquet(folder / "parquet" / "train-0.parquet")


def changed(path: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
    """Return what may become of a file: of JSON as a tree, of arrow and parquet what stands in their pictures."""
    content = path.read_bytes()
    if path.suffix == ".json":
        trees = mutated(json.loads(content)).map(lambda tree: json.dumps(tree).encode())
        return st.tuples(st.just(path), trees | spliced(content))
    start = content.index(b"\x89PNG")
    ends = st.integers(0, 200).map(lambda at: content[: start + at] + b"\xff" * 4 + content[start + at + 4 :])
    return st.tuples(st.just(path), ends.map(Content) | st.integers(0, len(content)).map(lambda end: content[:end]))


def test_photos_of_the_hub_are_crops_or_refused(tmp_path: Path, explore: Any) -> None:
    save_hub(tmp_path / "whole")
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".arrow", ".parquet"}

    def check(drawn: tuple[Path, bytes]) -> None:
        path, content = drawn
        for name in ("copy", "cache"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        (tmp_path / "copy" / path.relative_to(tmp_path / "whole")).write_bytes(content)
        source = tmp_path / "copy" / path.relative_to(tmp_path / "whole").parts[0]
        with bounded(), suppress(UserError):
            photos = open_photos(source, tmp_path / "cache")
            crops = load_crops(photos, SIDE, range(len(photos)))
            assert isinstance(crops, str) or crops.shape == (len(photos), 3, SIDE, SIDE)

    explore(check, st.sampled_from(files).flatmap(lambda path: changed(tmp_path / "whole" / path)), 40)


def bomb(width: int, height: int, depth: int, kind: int) -> Content:
    """Return a PNG of some hundred bytes that says how many pixels it has."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    lines = zlib.compress(bytes(100_000))
    return Content(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))


def other_formats() -> list[Content]:
    files = []
    for kind in ("GIF", "TIFF", "BMP", "WEBP", "JPEG", "PPM", "TGA", "DDS"):
        file = io.BytesIO()
        Image.fromarray(PICTURES[0]).save(file, kind)
        files.append(Content(file.getvalue()))
    return files


def test_a_picture_is_opened_within_its_limits_or_not_at_all(explore: Any) -> None:
    def check(content: bytes) -> None:
        with bounded(), suppress(Exception), open_picture(content) as image:  # Pillow's readers fail in many ways
            assert image.width * image.height <= MOST_PIXELS
            assert to_bytes(image).mode in ("L", "RGB")

    sides = st.sampled_from((1, 16, 9_000, 9_500, 40_000, 2**31 - 1))
    bombs = st.builds(bomb, sides, sides, st.sampled_from((1, 8, 16)), st.sampled_from((0, 2, 3, 4, 6)))
    explore(check, bombs | st.sampled_from(other_formats()).flatmap(spliced), 200)
