"""Measuring the images of a run, with the pictures that lie beside the numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.settings import EvaluationSettings
from harness.config.spec import TrainSpec
from harness.files import replace

if TYPE_CHECKING:
    from harness.engine.sample import Samples

ROWS, COLUMNS = 2, 10  # of a picture's tiles


def measure_samples(
    samples: "Samples",
    train: TrainSpec,
    evaluation: EvaluationSettings,
    data: Path,
    cache: Path,
    other: tuple[str, Path | None] | None = None,
) -> dict[str, Any]:
    """Return {metrics, unavailable, protocol, details} of drawn images.

    other: features and their weights, where they are not the measurement's own.

    Raises:
        UserError: as `measure`.
    """
    from harness.data.decode import autoencoder_sha256
    from harness.measure.evaluate import measure

    features, weights = other or (evaluation.features, None)
    measured = measure(
        samples.images, train.data.name, evaluation.reference, features, data, cache, weights, samples.device,
        samples.labels,
    )  # fmt: skip
    if sha256 := autoencoder_sha256(train.data.name, data):
        measured["protocol"]["autoencoder"] = sha256[:12]
    return measured


def save_pictures(path: Path, samples: "Samples", measured: dict[str, Any], name: str, split: str, data: Path) -> None:
    """Write pictures beside where a measurement is to be, <eval_id>.json.

    <eval_id>.png holds the first of the images; <eval_id>-nearest.png those that come nearest to real ones, a `split`
    of the data set `name`, where the measurement says which.
    """
    from harness.data.datasets import load_images

    save_thumbnails(path.with_suffix(".png"), samples.images)
    if pairs := measured["details"].get("nearest"):
        real = load_images(name, split, data).images  # uint8 (M, C, H, W)
        save_pairs(
            path.with_name(f"{path.stem}-nearest.png"),
            [samples.images[pair["sample"]] for pair in pairs],
            [real[pair["real"]] for pair in pairs],
        )


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
