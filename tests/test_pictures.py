"""Pictures of other people's: which formats are tried, and how large one may be before its pixels are read."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.pictures import FORMATS, open_picture, to_bytes

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"


def png(width: int, height: int, content: bytes = bytes(1000), bits: int = 8, kind: int = 2, clear: Any = ()) -> bytes:
    """A PNG as its specification has it (https://www.w3.org/TR/png-3): by default a header that promises that many
    black pixels, in a few bytes. kind: 0 is grey, 2 RGB, 4 grey and alpha; clear: the clear colour in the file's bits.
    """

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    key = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def opened(source: Path | bytes, **limits: int) -> tuple[int, int]:
    with open_picture(source, **limits) as image:
        image.load()
        return image.size


def test_postscript_called_a_picture_starts_no_other_program(tmp_path: Path) -> None:
    """A `gs` that leaves a trace stands first on PATH; Pillow would call it."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n", encoding="utf-8")
    (tmp_path / "gs").chmod(0o755)
    (tmp_path / "x.png").write_bytes(EPS)
    code = (
        "import sys; from pathlib import Path; from harness.pictures import open_picture\n"
        "try:\n  with open_picture(Path(sys.argv[1])) as image: image.load()\n"
        "except OSError as error: print(type(error).__name__)"
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    words = [sys.executable, "-c", code, str(tmp_path / "x.png")]
    done = subprocess.run(words, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("UnidentifiedImageError\n", "")
    assert not (tmp_path / "called").exists()
    assert not {"EPS", "WMF", "FITS", "HDF5"} & set(FORMATS)


def test_a_picture_of_too_many_pixels_or_bytes_is_refused_before_they_are_read() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"13,000×13,000 pixels, and at most 89,478,485"):
        opened(png(13_000, 13_000))
    with pytest.raises(Image.DecompressionBombError):
        opened(png(60_000, 60_000))
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        opened(png(4, 4) + bytes(200), size=100)
    with pytest.raises(ValueError, match=r"4×4 pixels, and at most 15"):
        opened(png(4, 4), pixels=15)
    assert opened(png(4, 4), pixels=16) == (4, 4)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError):
            opened(path, size=1000)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "SUN"])  # which Pillow reads alone
def test_each_format_that_pillow_writes_is_read(kind: str, tmp_path: Path) -> None:
    picture, content = Image.new("RGB", (8, 6), (200, 40, 90)), io.BytesIO()
    picture.save(content, format=kind)
    assert opened(content.getvalue()) == (8, 6)
    (tmp_path / "x.png").write_bytes(content.getvalue())
    assert opened(tmp_path / "x.png") == (8, 6)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def reopened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return Image.open(content)


def row(bits: int, kind: int, pixels: bytes, clear: Any = ()) -> Image.Image:
    """A PNG of one row."""
    width = len(pixels) * 8 // bits // {0: 1, 2: 3, 4: 2}[kind]
    return Image.open(io.BytesIO(png(width, 1, b"\0" + pixels, bits, kind, clear)))


MEANINGS = {  # a picture, and the bytes that it can only mean
    "1 bit": (lambda: reopened(Image.fromarray(GREY > 127), "PNG"), np.where(GREY > 127, 255, 0)),
    "16 bits": (lambda: reopened(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), GREY),
    "16 bits of TIFF": (lambda: reopened(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), GREY),
    "16 bits of PPM": (lambda: reopened(Image.fromarray(GREY.astype(np.uint16) * 257), "PPM"), GREY),
    "16 bits, rounded": (lambda: reopened(Image.fromarray(np.full((8, 8), 65407, np.uint16)), "PNG"), 255 + 0 * GREY),
    "a palette": (lambda: reopened(Image.fromarray(GREY).convert("P"), "GIF"), GREY),
    "opaque": (lambda: reopened(Image.fromarray(COLOUR).convert("RGBA"), "PNG"), COLOUR),
    "opaque grey": (lambda: reopened(Image.fromarray(GREY).convert("LA"), "PNG"), GREY),
    "a colour that is nowhere": (lambda: reopened(Image.fromarray(GREY), "PNG", transparency=3), GREY),
    "1 bit, a colour that is nowhere": (lambda: row(1, 0, b"\xff", (0,)), np.full((1, 8), 255)),
    "2 bits, a colour that is nowhere": (lambda: row(2, 0, b"\x1a", (3,)), np.array([[0, 85, 170, 170]])),
    "4 bits, a colour that is nowhere": (lambda: row(4, 0, b"\x0f", (5,)), np.array([[0, 255]])),
    "16 bits, a colour that is nowhere": (lambda: row(16, 0, b"\x01\x01\x02\x02", (514 - 1,)), np.array([[1, 2]])),
    "RGB, a colour that is nowhere": (lambda: row(8, 2, b"abc", (97, 98, 98)), np.array([[[97, 98, 99]]])),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_a_picture_becomes_the_bytes_that_it_can_only_mean(name: str) -> None:
    make, meaning = MEANINGS[name]
    found = to_bytes(make())
    assert found.mode == ("RGB" if meaning.ndim == 3 or found.mode == "RGB" else "L")
    expected = meaning if found.mode == "L" or meaning.ndim == 3 else np.stack([meaning] * 3, -1)
    np.testing.assert_array_equal(np.asarray(found), expected)


def half_clear() -> Image.Image:
    image = Image.fromarray(COLOUR).convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 254))
    return reopened(image, "PNG")


UNCLEAR = {
    "one clear pixel": (half_clear, "transparent picture; lay it on the background"),
    "a clear colour": (lambda: reopened(Image.fromarray(GREY), "PNG", transparency=4), "transparent picture"),
    "a clear 16-bit grey": (
        lambda: reopened(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", transparency=257 * 40),
        "transparent picture",
    ),
    "a clear 1-bit black": (lambda: row(1, 0, b"\xaa", (0,)), "transparent picture"),
    "a clear 1-bit white": (lambda: row(1, 0, b"\xaa", (1,)), "transparent picture"),
    "a clear 2-bit grey": (lambda: row(2, 0, b"\x1b", (2,)), "transparent picture"),
    "a clear 4-bit grey": (lambda: row(4, 0, b"\x0f", (15,)), "transparent picture"),
    "a clear dark 16-bit grey": (lambda: row(16, 0, b"\0\x05", (5,)), "transparent picture"),
    "a clear colour of RGB": (lambda: row(8, 2, b"abcabd", (97, 98, 99)), "transparent picture"),
    "a clear dark 16-bit colour": (lambda: row(16, 2, bytes(6), (1, 1, 1)), "transparent picture"),
    "16 bits of grey and alpha": (lambda: row(16, 4, b"\x7f\xff\xff\xff"), "16 bits of grey .* keeps the high byte"),
    "16 bits of SGI": (lambda: reopened(Image.fromarray(GREY), "SGI", bpc=2), "16 bits of grey as SGI"),
    "grey and alpha of JPEG 2000": (
        lambda: reopened(Image.fromarray(GREY).convert("LA"), "JPEG2000"), "16 bits of grey as JPEG2000"
    ),
    "floats": (lambda: reopened(Image.fromarray(GREY / np.float32(255)), "TIFF"), "mode F, whose black and white"),
    "32 bits": (lambda: reopened(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "mode I, whose black and white"),
    "white at 0": (
        lambda: reopened(Image.fromarray(GREY.astype(np.uint16)), "TIFF", tiffinfo={262: 0}), "mode I;16, whose black"
    ),
    "moving": (
        lambda: reopened(Image.fromarray(COLOUR), "GIF", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
        "more than one frame",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_picture_that_could_mean_something_else_is_refused(name: str) -> None:
    make, message = UNCLEAR[name]
    with pytest.raises(ValueError, match=message):
        to_bytes(make())
