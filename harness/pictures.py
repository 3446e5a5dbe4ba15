"""Other people's pictures: opened as one of the formats that are expected, and only as large as they may be.

Pillow goes by a file's content, whatever its name: an EPS called `x.png` would reach Ghostscript, and a file of some
kilobytes may say that it has billions of pixels. What its numbers mean as grey or RGB bytes is decided here as well.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from harness.files import open_file

# What Pillow decodes by itself: no PostScript, no metafiles, no other program. TGA, known by no first bytes, is last.
FORMATS = (
    "AVIF", "BMP", "DDS", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "SUN", "TIFF", "WEBP", "TGA",
)  # fmt: skip
SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dds", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
    ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".ras", ".sgi", ".tga", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
MOST_PIXELS = 89_478_485  # above which Pillow warns; 256 MiB as RGB, and the largest photo of ImageNet has 20 million
MOST_BYTES = 1 << 28
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes of bytes
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")  # 16 bits of grey; Pillow's own readers of 16-bit colour keep the high byte
BITS, PHOTOMETRIC, BLACK_IS_ZERO = 258, 262, 1  # of TIFF


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
        content = io.BytesIO(_content(source, size))
        try:
            picture = Image.open(content, formats=tuple(formats))
        except UnidentifiedImageError:
            raise UnidentifiedImageError(f"cannot identify its format; read are {', '.join(formats)}") from None
    with picture as image:
        if image.width * image.height > pixels:
            raise ValueError(f"{image.width:,}×{image.height:,} pixels, and at most {pixels:,} are read")
        yield image


def channels(image: Image.Image) -> int:
    """Return 1 for a grey picture and 3 for a coloured one, from its header.

    Raises:
        ValueError: its numbers have no one meaning as bytes, or it has more than one frame.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with previews of itself
        raise ValueError("more than one frame; save the one that is meant as a picture of its own")
    if _loses_grey(image):
        what = f"16 bits of grey as {image.format} or with transparency, of which Pillow keeps the high byte"
        raise ValueError(f"{what}; save it as PNG without transparency")
    if image.mode in GREY or is_deep(image):
        return 1
    if image.mode not in COLOUR:
        raise ValueError(f"a picture of mode {image.mode}, whose black and white are unknown; save it as 8-bit PNG")
    return 3


def is_deep(image: Image.Image) -> bool:
    """Does a picture hold grey from 0 to 65,535? Of TIFF also 12 bits and white at 0 come as Pillow's 16-bit mode."""
    if image.format == "TIFF" and image.mode in DEEP:
        tags = image.tag_v2  # type: ignore[attr-defined]
        return tags.get(BITS) == (16,) and tags.get(PHOTOMETRIC) == BLACK_IS_ZERO
    return image.mode in DEEP or (image.mode == "I" and image.format in ("PNG", "PPM"))


def to_bytes(image: Image.Image) -> Image.Image:
    """Return a picture in mode L or RGB.

    8 bits stay, 16 bits of grey are divided by 257 and rounded, 1 bit becomes 0 and 255, a palette and CMYK become RGB
    as Pillow converts them. Transparency that nothing shows through is dropped.

    Raises:
        ValueError: as `channels`, or something shows through.
    """
    mode = "L" if channels(image) == 1 else "RGB"
    if image.has_transparency_data and _shows_through(image):
        raise ValueError("a transparent picture; lay it on the background that you mean")
    if not is_deep(image):
        return image.convert(mode)
    return Image.fromarray(np.round(np.asarray(image, np.float64) / 257).astype(np.uint8))


def _coding(image: Image.Image) -> str:
    """Return how an opened file codes its pixels, such as "zip L;2" or "zip RGB;16B"; "" once they are read."""
    tile = next(iter(getattr(image, "tile", ())), None)
    return f"{tile[0]} {tile[3]}" if tile else ""


def _loses_grey(image: Image.Image) -> bool:
    """Is it 16 bits of grey that Pillow reads as 8, or a JPEG 2000 of grey and alpha, which says no bits?"""
    coding = _coding(image)
    cut = "16" in coding and (image.mode in GREY or "LA;16" in coding)
    return cut or (image.mode == "LA" and coding.startswith("jpeg2k"))


def _shows_through(image: Image.Image) -> bool:
    """Does a picture have a pixel through which something shows? A clear colour of PNG is one in the file's own bits,
    and Pillow makes 8 of them; of 16 bits of colour it keeps the high byte, so that any clear colour may be there."""
    key, coding = image.info.get("transparency"), _coding(image)
    if not isinstance(key, int | tuple) or image.mode in ("P", "PA"):
        return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
    if "16" in coding and not is_deep(image):
        return True
    shades = {"zip 1": 1 / 255, "zip L;2": 85, "zip L;4": 17}.get(coding, 1)  # of 1 bit Pillow says 0 or 255
    pixels = np.asarray(image, np.float64)
    return bool((pixels == np.multiply(key, shades)).reshape(image.height, image.width, -1).all(-1).any())


def _content(source: Path | bytes, size: int) -> bytes:
    content = source if isinstance(source, bytes) else _read(source, size)
    if len(content) > size:
        raise ValueError(f"larger than {size:,} bytes, which is the most that is read of a picture")
    return content


def _read(path: Path, size: int) -> bytes:
    """Return at most one byte more than `size` of a file."""
    with open_file(path) as file:
        return file.read(size + 1)
