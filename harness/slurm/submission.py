"""Sending jobs to SLURM, each once: what was sent is recorded beside the checkpoints, before it is sent.

scratch/<study>/<train_id>/submission.json   which job of SLURM's makes this training
scratch/<study>/slurm/sent.json              the profile and the data folder of the last `harness submit`
scratch/<study>/slurm/                       submitit's files, the jobs' output (<job>/<job>_0_log.out), and their code
"""

import itertools
import shutil
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.cluster_profile import SlurmProfile
from harness.config.spec import eval_id
from harness.errors import UserError
from harness.files import locked, read_json, write_json
from harness.jobs.job import Job
from harness.slurm.client import DEFAULT_ARRAY_LIMIT, Queued, array_limit, cancel, queued
from harness.slurm.environment import own_environment
from harness.slurm.snapshot import Snapshot, snapshot
from harness.store.store import IDENTITY, Store

ATTEMPTS = 100  # how often a job may reach its time limit and go on in the queue
SENT = "sent.json"


@dataclass(frozen=True)
class Submission:
    """One training's record. token: the name of its job, chosen before SLURM gave it an id."""

    token: str
    index: int | None
    evaluations: tuple[str, ...]
    time: float
    job: str | None = None
    cancelled: bool = False

    @property
    def place(self) -> tuple[str, int | None]:
        """Where SLURM's queue has its job, also where nobody lived to write down its id."""
        return self.token, self.index


def record_path(store: Store, train_id: str) -> Path:
    """Return where a training's submission is recorded."""
    return store.scratch_folder(train_id) / "submission.json"


def read_submission(store: Store, train_id: str) -> Submission | None:
    """Return a training's last submission; None where there is none."""
    held = read_json(record_path(store, train_id))
    return Submission(**held | {"evaluations": tuple(held["evaluations"])}) if isinstance(held, dict) else None


def write_submission(store: Store, train_id: str, submission: Submission) -> None:
    """Record a submission."""
    write_json(record_path(store, train_id), asdict(submission))


def submissions(store: Store) -> dict[str, Submission]:
    """Return the last submission of every training of a study, also of those that no grid of it wants any more."""
    ids = sorted(path.parent.name for path in (store.scratch / store.study).glob("*/submission.json"))
    return {id: record for id in ids if IDENTITY.fullmatch(id) and (record := read_submission(store, id))}


def write_sent(store: Store, profile: str | None, data: Path) -> None:
    """Remember what a submission was told, for a retry of it."""
    write_json(logs_of(store) / SENT, {"profile": profile, "data": str(data)})


def read_sent(store: Store) -> dict[str, Any]:
    """Return what the last submission of a study was told; nothing where none was sent."""
    sent = read_json(logs_of(store) / SENT)
    return sent if isinstance(sent, dict) else {}


@dataclass(frozen=True)
class Array:
    """Jobs that are sent together: equal resources, and no more than the cluster takes."""

    token: str
    jobs: tuple[Job, ...]
    parameters: dict[str, Any]


@dataclass
class Sent:
    """What a submission came to. without: known with less to measure; later: what the queue has no room for."""

    ids: list[str] = field(default_factory=list)
    known: list[Job] = field(default_factory=list)
    without: list[Job] = field(default_factory=list)
    later: list[Job] = field(default_factory=list)

    @property
    def arrays(self) -> list[str]:
        """SLURM's ids of the arrays."""
        return list(dict.fromkeys(id.partition("_")[0] for id in self.ids))


def arrays_of(jobs: Sequence[Job], profile: SlurmProfile, limit: int, code: Snapshot) -> list[Array]:
    """Cut jobs into arrays of equal resources, none larger than `limit`, that run `code`.

    Raises:
        UserError: the profile's cluster cannot give what a job asks.
    """
    by_resources = sorted(jobs, key=lambda job: job.resources.model_dump_json())
    arrays = []
    for resources, group in itertools.groupby(by_resources, key=lambda job: job.resources):
        alike = tuple(group)
        for first in range(0, len(alike), limit):
            part = alike[first : first + limit]
            token = f"{part[0].store.study}-{uuid.uuid4().hex[:12]}"
            parameters = profile.parameters(resources, token, len(part))
            parameters["setup"] = [*parameters["setup"], code.setup]
            arrays.append(Array(token, part, parameters))
    return arrays


def logs_of(store: Store) -> Path:
    """Return the folder of a study's jobs in SLURM."""
    return store.scratch / store.study / "slurm"


def texts(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> Iterator[str]:
    """Yield the sbatch files that `submit` would send; nothing is asked of SLURM, nor written."""
    from submitit.slurm.slurm import _make_sbatch_string

    logs = logs_of(jobs[0].store)
    limit = DEFAULT_ARRAY_LIMIT if profile.array_limit == "auto" else profile.array_limit
    command = f"{sys.executable} -u -m submitit.core._submit {logs / '%j'}"
    for array in arrays_of(jobs, profile, limit, snapshot(grids, logs)):
        count = len(array.jobs) if len(array.jobs) > 1 else None
        yield _make_sbatch_string(command=command, folder=logs / "%j", map_count=count, **array.parameters)


def check_slurm() -> None:
    """Refuse before anything is written.

    Raises:
        UserError: there is no SLURM here.
    """
    if shutil.which("srun") is None:
        raise UserError("submit: no SLURM here ('srun' is not on PATH); 'harness run' runs the same grid locally")


def submit(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> Sent:
    """Send to SLURM the jobs of one study that it does not hold already; `grids`: the folders of their grid files.

    Raises:
        UserError: there is no SLURM here, or it refused an array; those before it are sent, recorded and told.
    """
    check_slurm()
    logs = logs_of(jobs[0].store)
    logs.mkdir(parents=True, exist_ok=True)
    with locked(logs / "lock"):  # a second terminal waits, and then finds the first one's jobs
        held = queued()
        sent, todo = _known(jobs, held)
        if profile.max_submitted is not None:
            room = max(0, profile.max_submitted - len(held))
            todo, sent.later = todo[:room], todo[room:]
        limit = array_limit() if profile.array_limit == "auto" else profile.array_limit
        code = snapshot(grids, logs)
        arrays = arrays_of(todo, profile, limit, code)
        code.take()
        for number, array in enumerate(arrays, 1):
            try:
                sent.ids += _send(array, logs)
            except UserError as error:
                left = len(todo) - len(sent.ids)
                raise UserError(
                    f"submit: SLURM refused array {number} of {len(arrays)}: {error}. Sent and recorded: "
                    f"{len(sent.ids)} trainings (job {', '.join(sent.arrays) or 'none'}); not sent: {left}, which the "
                    "same command sends"
                ) from None
    return sent


def _known(jobs: Sequence[Job], held: Collection[Queued]) -> tuple[Sent, list[Job]]:
    """Tell the jobs that SLURM holds from those that are to be sent; note those that it holds with less to measure."""
    sent, todo, places = Sent(), [], {job.place: job for job in held}
    for job in jobs:
        if not job.missing():  # it ended since somebody looked, and before SLURM was asked
            continue
        submission = read_submission(job.store, job.train_id)
        found = places.get(submission.place) if submission else None
        if submission is None or found is None:
            todo.append(job)
            continue
        if submission.job is None:  # nobody lived to write it down
            write_submission(job.store, job.train_id, replace(submission, job=found.id))
        sent.known.append(job)
        if not {eval_id(job.train, e) for e in job.missing()} <= set(submission.evaluations):
            sent.without.append(job)
    return sent, todo


def _send(array: Array, logs: Path) -> list[str]:
    """Record an array's jobs under its token, send it, and record the ids that SLURM gave them."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    before = [read_json(record_path(job.store, job.train_id)) for job in array.jobs]
    records = [
        Submission(
            array.token,
            index if len(array.jobs) > 1 else None,
            tuple(eval_id(job.train, e) for e in job.evaluations),
            time.time(),
        )
        for index, job in enumerate(array.jobs)
    ]
    for job, record in zip(array.jobs, records, strict=True):
        write_submission(job.store, job.train_id, record)
    executor = SlurmExecutor(folder=logs / "%j", max_num_timeout=ATTEMPTS)
    executor.update_parameters(**array.parameters)
    try:
        with own_environment(), executor.batch():
            sent = [executor.submit(job) for job in array.jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        _take_back(array, before)
        raise UserError(str(error).strip().splitlines()[-1]) from None
    ids = [str(job.job_id) for job in sent]
    for job, record, id in zip(array.jobs, records, ids, strict=True):
        write_submission(job.store, job.train_id, replace(record, job=id))
    return ids


def _take_back(array: Array, before: Sequence[Any]) -> None:
    """Restore the records of an array that sbatch refused, and end it where SLURM took it all the same.

    That happens when the controller's answer is lost on the way; such jobs would wait for files that nobody wrote.
    """
    cancel({job.id.partition("_")[0] for job in queued() if job.name == array.token})
    for job, held in zip(array.jobs, before, strict=True):
        path = record_path(job.store, job.train_id)
        if held is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, held)
