"""Measurements of what is trained already, as cheap jobs of their own."""

from collections.abc import Iterable
from dataclasses import replace

from harness.jobs.job import Job


def measurements(jobs: Iterable[Job]) -> list[Job]:
    """Return what of the jobs needs no training, its weights being kept, as jobs of one process each."""
    from harness.checkpoint_files import weights_path

    found = []
    for job in jobs:
        folder = job.store.scratch_folder(job.train_id)
        ready = tuple(e for e in job.missing() if weights_path(folder, e.step).is_file())
        alone = {"nodes": 1, "processes": 1, "gpus": min(job.resources.gpus, 1)}
        if ready:
            found.append(replace(job, evaluations=ready, resources=job.resources.model_copy(update=alone)))
    return found
