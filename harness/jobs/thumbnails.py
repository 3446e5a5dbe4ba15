"""The first images of a measurement, as one small picture for the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import replace

ROWS, COLUMNS = 2, 10


def save_pairs(path: Path, samples: Sequence[Any], real: Sequence[Any]) -> None:
    """Write samples, uint8 (C, H, W) each, above the real images that they come nearest to: `COLUMNS` of them."""
    import numpy as np

    tiles = np.zeros((ROWS, COLUMNS, *samples[0].shape), np.uint8)
    for row, images in zip(tiles, (samples, real), strict=True):
        row[: len(images)] = images[:COLUMNS]
    save_thumbnails(path, tiles.reshape(-1, *samples[0].shape))


def save_thumbnails(path: Path, images: Any, side: int = 64) -> None:
    """Write the first images, uint8 (N, C, H, W), as one PNG of `ROWS` × `COLUMNS` tiles, none larger than `side`."""
    import numpy as np
    from PIL import Image

    _, channels, height, width = images.shape
    blank = np.zeros((ROWS * COLUMNS, channels, height, width), np.uint8)
    blank[: min(len(images), ROWS * COLUMNS)] = images[: ROWS * COLUMNS]
    sheet = blank.reshape(ROWS, COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(ROWS * height, COLUMNS * width, channels)
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet[..., :3])
    if height > side:
        picture = picture.resize((COLUMNS * side, ROWS * side), Image.Resampling.BOX)
    replace(path, lambda temporary: picture.save(temporary, format="PNG", optimize=True))
