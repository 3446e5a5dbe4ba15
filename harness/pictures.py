"""Other people's pictures: opened as one of the formats that are expected, and only as large as they may be.

Pillow goes by a file's content, whatever its name: an EPS called `x.png` would reach Ghostscript, and a file of some
kilobytes may say that it has billions of pixels.
"""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

# What Pillow decodes by itself: no PostScript, no metafiles, no other program. TGA, known by no first bytes, is last.
FORMATS = (
    "AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP", "TGA",
)  # fmt: skip
MOST_PIXELS = 89_478_485  # above which Pillow warns; 256 MiB as RGB, and the largest photo of ImageNet has 20 million
MOST_BYTES = 1 << 28


@contextmanager
def open_picture(
    source: Path | bytes, formats: Sequence[str] = FORMATS, pixels: int = MOST_PIXELS, size: int = MOST_BYTES
) -> Iterator[Image.Image]:
    """Open a picture, whose pixels are not read yet; they are in RAM only after it was found to be small enough.

    source: a file, or what is in one. formats: as Pillow names them. pixels, size: the most that it may have, and the
    most bytes of the file.

    Raises:
        Exception: it is larger, cannot be read, is no plain file, or of none of these formats; Pillow's readers fail in
            many ways, and again when the pixels are read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is the caller's
        picture = Image.open(io.BytesIO(_content(source, size)), formats=tuple(formats))
    with picture as image:
        if image.width * image.height > pixels:
            raise ValueError(f"{image.width:,}×{image.height:,} pixels, and at most {pixels:,} are read")
        yield image


def _content(source: Path | bytes, size: int) -> bytes:
    content = source if isinstance(source, bytes) else _read(source, size)
    if len(content) > size:
        raise ValueError(f"larger than {size:,} bytes, which is the most that is read of a picture")
    return content


def _read(path: Path, size: int) -> bytes:
    """Return at most one byte more than `size` of a file; one that waits for a writer is not waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("no plain file")
        return file.read(size + 1)
