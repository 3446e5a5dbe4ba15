"""Samples: the thumbnails that the store keeps, as pictures that stand inside a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from harness.config.grid import Run
from harness.pictures import open_picture
from harness.store.records import Measurement
from harness.store.store import Store

SMOOTH_FROM = 400  # pixels; wider thumbnails are shown as pictures, narrower ones as enlarged pixels
WEBP_QUALITY = 82
# What a job writes is far smaller: 20 tiles of 64×64 pixels in some 100 kB.
MOST_PIXELS, MOST_BYTES = 1 << 20, 1 << 22
MOST_TILES, LARGEST_TILE = 256, 512
LARGEST_SIDE = 8192  # a WebP has at most 16,383 pixels a side, six pairs of tiles too
MOST_IN_PAGE = 1 << 17  # bytes that one picture may add to a page, before they are written as letters


@dataclass(frozen=True)
class Sheet:
    """The first samples of a measurement, `rows` × `columns` tiles that touch each other, and words for them."""

    path: Path
    size: int  # bytes
    rows: int
    columns: int
    width: int
    height: int
    alt: str

    @property
    def pixelated(self) -> bool:
        """True for pictures so small that each pixel should be seen."""
        return self.width < SMOOTH_FROM

    @property
    def uri(self) -> str:
        """The picture as it stands in a page: as it is stored where that is small, else as WebP."""
        stored = self.pixelated and self.size <= MOST_IN_PAGE
        return data_uri(self.path.read_bytes(), "png") if stored else image_uri(self.image)

    @property
    def in_page(self) -> int:
        """About how many bytes it adds to a page, at most."""
        return min(self.size, MOST_IN_PAGE) * 4 // 3

    @property
    def image(self) -> Image.Image:
        """The picture's pixels in RGB."""
        return _pixels(self.path)


@dataclass(frozen=True)
class Strip:
    """The samples of one arm. `sheet` is None where there are none, and `missing` then says why."""

    name: str
    sheet: Sheet | None
    missing: str = ""


def image_uri(image: Image.Image) -> str:
    """Return a picture as the address of a WebP that looks like it, reduced until it is no burden to a page."""
    content = _encoded(image, "WEBP", quality=WEBP_QUALITY, method=4)
    return data_uri(content, "webp") if len(content) <= MOST_IN_PAGE else image_uri(image.reduce(2))


def png_uri(image: Image.Image) -> str:
    """Return a small picture as an address, each of its pixels kept unless that would be a burden to a page."""
    content = _encoded(image, "PNG", optimize=True)
    return data_uri(content, "png") if len(content) <= MOST_IN_PAGE else image_uri(image)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Return an image's bytes as an address that needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def read_strip(store: Store, run: Run, measurement: Measurement | None, name: str, missing: str = "") -> Strip:
    """Return the samples kept beside a run's measurement, or why there are none: `missing` where that is known."""
    return _read(store.eval_path(run.train_id, run.eval_id).with_suffix(".png"), run, measurement, name, missing)


def read_nearest(store: Store, run: Run, measurement: Measurement | None) -> Sheet | None:
    """Return the picture of the samples that came nearest to real images, these in its second row; None without one."""
    path = store.eval_path(run.train_id, run.eval_id)
    return _read(path.with_name(f"{path.stem}-nearest.png"), run, measurement, "samples near real images").sheet


def _read(path: Path, run: Run, measurement: Measurement | None, name: str, missing: str = "") -> Strip:
    none = Strip(name, None, missing or "no samples were kept")
    if measurement is None or measurement.thumbnails is None:
        return none
    rows, columns = measurement.thumbnails.rows, measurement.thumbnails.columns
    alt = f"{rows * columns} samples of {name}, seed {run.seed}, in {rows} rows of {columns}"
    try:
        width, height = _pixels(path).size
    except FileNotFoundError:
        return none
    except Exception:  # Pillow's readers fail in many ways
        return Strip(name, None, "the picture of its samples is unreadable")
    if not _are_tiles(rows, columns, width, height):
        return Strip(name, None, "the picture of its samples is not one that the harness writes")
    return Strip(name, Sheet(path, path.stat().st_size, rows, columns, width, height, alt))


def _pixels(path: Path) -> Image.Image:
    """Return a picture in RGB, as it stands in a page, where it is of the kind and size of those that jobs write."""
    with open_picture(path, ("PNG",), MOST_PIXELS, MOST_BYTES) as image:
        return image.convert("RGB")


def _are_tiles(rows: int, columns: int, width: int, height: int) -> bool:
    """Can a picture of that many pixels be that many tiles?"""
    few = min(rows, columns) > 0 and rows * columns <= MOST_TILES and max(width, height) <= LARGEST_SIDE
    return few and columns <= width <= columns * LARGEST_TILE and rows <= height <= rows * LARGEST_TILE
