"""What is refused before anything runs or is written, because it would only fail at the end of a long training."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from harness.config import imported_weights, resolve
from harness.config.grid import Table
from harness.config.plugin_parts import folders
from harness.errors import UserError
from harness.files import check_open, place
from harness.jobs.job import Job
from harness.jobs.tracking import check_trackers
from harness.store.records import Failure


def check(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Check jobs; what several of them need alike is looked for once.

    processes: how many share each training, where this is not as its resources say.

    Raises:
        UserError: processes cannot share a training, what it needs is missing or is not what its spec says, or a
            measurement could not be made.
    """
    for _, check_one in checks(jobs, processes):
        check_one()


def checks(jobs: Sequence[Job], processes: int | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what `check` looks for, one by one: what it is, and what looks for it and raises."""
    from harness.measure.evaluate import check_measurable

    yield "resources and trackers", partial(check_unconverted, jobs, processes)
    yield "access to what others wrote", partial(_check_access, jobs)
    alike = {(j.data, j.weights, j.train.data, j.train.weights, j.train.alignment): j for j in jobs}
    for job in alike.values():
        yield f"data set {job.train.data.name}", partial(_check_ingredients, job)
    measured = ((j.data, j.train.data.name, e.evaluation) for j in jobs for e in j.evaluations)
    for data, name, settings in dict.fromkeys(measured):
        subject = f"features {settings.features} of {name}:{settings.reference}"
        yield subject, partial(check_measurable, name, settings.reference, settings.features, data)


def convert_folders(tables: Sequence[Table], data: Path) -> None:
    """Make arrays of the folders of pictures that tables name, in the folder of data sets.

    Raises:
        UserError: as `convert_folder`.
    """
    from harness.data.picture_arrays import convert_folder

    for table in tables:
        for name, written in folders(table.plugins):
            convert_folder(name, place(written.path, "data.path"), written.split, written.size, data)


def _check_access(jobs: Sequence[Job]) -> None:
    """Look whether this user may go on with what a colleague began, and use what is cached.

    Raises:
        UserError: what is closed, and how its owner mends it.
    """
    for job in jobs:
        check_open(job.folder)
        check_open(job.scratch)
    for cache in {job.store.cache for job in jobs}:
        check_open(cache, os.R_OK)


def check_unconverted(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Check what needs no data set to be read, and so writes nothing: `check` converts them on first use.

    Raises:
        UserError: processes cannot share a training, a tracker is not installed, or a data set is not there.
    """
    from harness.data.datasets import check_source

    by_id = {job.train_id: job for job in jobs}
    for job in jobs:
        try:
            resolve.check_resources(job.train, job.resources, processes)
        except resolve.SettingError as error:
            raise UserError(f"{error.key}: {error}") from None
        _check_first_phase(job, by_id)
    check_trackers(sorted({name for job in jobs for name in job.resources.tracking}))
    for data, name in sorted({(job.data, job.train.data.name) for job in jobs}):
        check_source(name, data)


def _check_first_phase(job: Job, jobs: Mapping[str, Job]) -> None:
    """Look for the weights that a second phase goes on from; that first one may be done before, or have diverged.

    Raises:
        UserError: they are not there, and none of the jobs makes them.
    """
    first, phase = jobs.get(job.first_phase_id or ""), job.train.soft_tokens
    comes = first and phase and phase.after in {e.step for e in first.missing()}
    failure = Failure.read(job.store.run_folder(job.first_phase_id)) if job.first_phase_id else None
    if not comes and not (failure and failure.kind == "diverged"):
        job.frozen_weights()


def _check_ingredients(job: Job) -> None:
    """Look for what a training is made of: imported weights, data set, autoencoder, frozen encoder."""
    from harness.data import latents
    from harness.data.datasets import load_training
    from harness.data.raw_files import has_pixels
    from harness.data.to_bytes import check_decoder
    from harness.networks.encoder import check_encoder

    if job.train.weights:
        imported_weights.find(job.weights, job.train.weights)
    data = job.train.data
    dataset = load_training(data, job.train.seed, job.data)
    shape, expected = dataset.shape, (data.channels, data.size, data.size)
    if (shape, dataset.classes) != (expected, data.classes):
        raise UserError(
            f"data set {data.name}: its files in {job.data} hold images of {shape} in {dataset.classes} classes, "
            f"the scale says {expected} in {data.classes}"
        )
    stored = latents.read_meta(data.name, job.data).dtype if not has_pixels(data.name) else None
    if stored != data.moments:
        raise UserError(
            f"data.moments: {data.moments or 'float32'}, and {job.data / data.name} holds {stored or 'float32'}; "
            f"add --set data.moments={stored or 'null'}, or encode again with --moments {data.moments or 'float32'}"
        )
    check_decoder(data.name, job.data)
    if job.train.alignment:
        check_encoder(job.train.alignment, dataset, job.data)
