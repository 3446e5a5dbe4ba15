"""Measuring the images of a run, with the pictures that lie beside the numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.settings import EvaluationSettings
from harness.config.spec import TrainSpec
from harness.jobs import thumbnails

if TYPE_CHECKING:
    from harness.engine.sample import Samples


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
    from harness.data.decode import autoencoder_identity
    from harness.measure.evaluate import measure

    features, weights = other or (evaluation.features, None)
    measured = measure(
        samples.images, train.data.name, evaluation.reference, features, data, cache, weights, samples.device,
        samples.labels,
    )  # fmt: skip
    if autoencoder := autoencoder_identity(train.data.name, data):
        measured["protocol"]["autoencoder"] = autoencoder
    return measured


def save_pictures(path: Path, samples: "Samples", real: Any, measured: dict[str, Any]) -> None:
    """Write pictures beside where a measurement is to be, <eval_id>.json.

    <eval_id>.png holds the first of the images; <eval_id>-nearest.png those that come nearest to real ones, uint8
    (M, C, H, W), where the measurement says which.
    """
    thumbnails.save_thumbnails(path.with_suffix(".png"), samples.images)
    if pairs := measured["details"].get("nearest"):
        thumbnails.save_pairs(
            path.with_name(f"{path.stem}-nearest.png"),
            [samples.images[pair["sample"]] for pair in pairs],
            [real[pair["real"]] for pair in pairs],
        )
