"""Measuring the images of a run, with the pictures that lie beside the numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.launch import thumbnails
from harness.settings import EvaluationSettings
from harness.spec import TrainSpec

if TYPE_CHECKING:
    from harness.engine.sample import Samples


def measure_samples(
    samples: "Samples", train: TrainSpec, evaluation: EvaluationSettings, path: Path, data: Path, cache: Path
) -> dict[str, Any]:
    """Return {metrics, unavailable, protocol, details} of drawn images; `path` is where these will be written.

    Beside it lie <eval_id>.png, the first of the images, and <eval_id>-nearest.png, those nearest to training images.

    Raises:
        UserError: as `measure`.
    """
    from harness.engine.data import load_images
    from harness.measure.evaluate import measure

    dataset, reference = train.data.name, evaluation.reference
    measured = measure(
        samples.images, dataset, reference, evaluation.features, data, cache, None, samples.device, samples.labels
    )
    thumbnails.save_thumbnails(path.with_suffix(".png"), samples.images)
    if pairs := measured["details"].get("nearest"):
        real = load_images(dataset, reference, data).images
        thumbnails.save_pairs(
            path.with_name(f"{path.stem}-nearest.png"),
            [samples.images[pair["sample"]] for pair in pairs],
            [real[pair["real"]] for pair in pairs],
        )
    return measured
