"""What is refused before anything runs or is written, because it would only fail at the end of a long training."""

from collections.abc import Sequence
from pathlib import Path

from harness import imported
from harness.errors import UserError
from harness.launch.job import Job
from harness.launch.tracking import check_trackers
from harness.resolve import SettingError, check_resources
from harness.settings import EvaluationSettings


def check(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Check jobs; what several of them need alike is looked for once.

    processes: how many share each training, where this is not as its resources say.

    Raises:
        UserError: processes cannot share a training, what it needs is missing or is not what its spec says, or a
            measurement could not be made.
    """
    check_unconverted(jobs, processes)
    alike = {(j.data, j.weights, j.train.data, j.train.weights, j.train.alignment): j for j in jobs}
    for job in alike.values():
        _check_ingredients(job)
    for wanted in {(j.data, j.train.data.name, e.evaluation) for j in jobs for e in j.evaluations}:
        _check_measurement(*wanted)


def check_unconverted(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Check what needs no data set to be read, and so write nothing: `check` converts them on first use.

    Raises:
        UserError: processes cannot share a training, a tracker is not installed, or a data set is not there.
    """
    from harness.engine.data import check_source

    for job in jobs:
        try:
            check_resources(job.train, job.resources, processes)
        except SettingError as error:
            raise UserError(f"{error.key}: {error}") from None
    check_trackers(sorted({name for job in jobs for name in job.resources.tracking}))
    for data, name in sorted({(job.data, job.train.data.name) for job in jobs}):
        check_source(name, data)


def _check_ingredients(job: Job) -> None:
    """Look for what a training is made of: imported weights, data set, autoencoder, frozen encoder."""
    from harness.engine.data import load
    from harness.engine.encoder import check_encoder
    from harness.engine.vae import check_decoder

    if job.train.weights:
        imported.find(job.weights, job.train.weights)
    said = job.train.data
    dataset = load(said.name, "train", job.data, said.flip)
    found, expected = (*dataset.shape, dataset.classes), (said.channels, said.size, said.size, said.classes)
    if found != expected:
        raise UserError(
            f"data set {said.name}: its files in {job.data} hold images of {found[:3]} in {found[3]} classes, "
            f"the scale says {expected[:3]} in {expected[3]}"
        )
    check_decoder(said.name, job.data)
    if job.train.alignment:
        check_encoder(job.train.alignment, dataset, job.data)


def _check_measurement(data: Path, name: str, said: EvaluationSettings) -> None:
    from harness.measure.evaluate import check_measurable

    check_measurable(name, said.reference, said.features, data)
