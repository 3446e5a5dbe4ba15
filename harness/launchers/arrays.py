"""What is sent together: jobs of equal resources as arrays, no more of them than a queue has room for."""

import hashlib
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.jobs.job import Job, jobs_to_json
from harness.launchers.launcher import Parcel, Queueing
from harness.launchers.private import own_folder
from harness.launchers.sent_before import Place
from harness.launchers.snapshot import Snapshot, as_sent
from harness.store.records import Submission
from harness.store.store import Store


@dataclass(frozen=True)
class Array:
    """Jobs of equal resources that are sent together."""

    jobs: list[Job]
    parcel: Parcel
    text: str

    @property
    def elements(self) -> list[int | None]:
        """For each job which element of the array makes it: those that share a GPU are one; None where there is one."""
        packed = self.jobs[0].resources.packed
        return [index // packed if len(self.jobs) > packed else None for index in range(len(self.jobs))]

    def needs(self, ids: Mapping[Place, str]) -> list[str]:
        """Return which of some jobs must end well before these begin: the earlier parts of their training, and the
        training of a first phase."""
        first = self.jobs[0]
        earlier = [p.name for p in first.division() if p.stage < first.part.stage] if first.part.stage else []
        places = [(first.train_id, name) for name in earlier]
        if first.first_phase_id and not first.part.stage:
            places += [(first.first_phase_id, name) for name in ("whole", "train")]
        return [ids[place] for place in places if place in ids]


def cut(jobs: Iterable[Job], launcher: Queueing, code: Snapshot, folders: tuple[Path, ...], limit: int) -> list[Array]:
    """Cut jobs of one study into arrays of equal resources, none larger than `limit`; code: what they execute.

    folders: those that they read and write.

    Raises:
        UserError: the launcher cannot give what a job asks.
    """
    arrays = []
    for group in alike(jobs):
        resources, folder = group[0].resources, own_folder(group[0].store)
        most = limit * resources.packed
        for part in (group[first : first + most] for first in range(0, len(group), most)):
            tasks, count = jobs_to_json(list(map(as_sent, part))), math.ceil(len(part) / resources.packed)
            parcel = Parcel(name_of_array(part, tasks), tasks, count, resources, folder, code, folders)
            arrays.append(Array(part, parcel, launcher.text(parcel)))
    return arrays


def alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return the jobs of equal resources that wait for the same jobs: trainings together, the shards of each, what
    measures each, and the same of second phases."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (job.first_phase_id is not None, min(job.part.stage, 1))):
        waits = (job.train_id, job.part.stage) if job.part.stage else (job.first_phase_id,)
        groups.setdefault((waits, job.resources), []).append(job)
    return list(groups.values())


def count_jobs(jobs: Iterable[Job]) -> int:
    """Return how many jobs of SLURM's these are: those that are packed together are one."""
    return sum(math.ceil(len(alike) / alike[0].resources.packed) for alike in alike(jobs))


def fitting(todo: list[list[Job]], most: int, room: int) -> tuple[list[list[Job]], list[Job]]:
    """Return the trainings, each with its parts, that the room in a queue is enough for, and the others.

    most: the room in one that is empty.

    Raises:
        UserError: one training alone has too many parts.
    """
    if large := next((parts for parts in todo if count_jobs(parts) > most), None):
        raise UserError(
            f"resources.sample_shards: a training is {count_jobs(large)} jobs, and the queue may hold {most} of them "
            "(the profile's max_submitted or study_throttle, or SLURM's limit); ask for fewer shards"
        )
    count = bisect_right(range(1, len(todo) + 1), room, key=lambda count: count_jobs(itertools.chain(*todo[:count])))
    return todo[:count], [parts[0] for parts in todo[count:]]


def name_of_array(jobs: Sequence[Job], tasks: bytes) -> str:
    """Name an array after its tasks and what was sent for them before, so that none has the name of an earlier one."""
    digest = hashlib.sha256(tasks)
    for job in jobs:
        before = Submission.read(job.submission_folder)
        digest.update(f"\n{before.token} {before.time}".encode() if before else b"\n")
    return f"{jobs[0].store.study}-{digest.hexdigest()[:12]}"


def folders_of(store: Store, jobs: Sequence[Job]) -> list[Path]:
    """Return the folders that jobs of a study, and their plug-ins, read and write; data and weights where there are."""
    named = {folder for job in jobs for folder in (job.data, job.weights, *(file.parent for file in job.plugins))}
    optional = sorted(folder for folder in named if folder.is_dir())
    return [store.results.absolute(), store.scratch.absolute(), *optional]
