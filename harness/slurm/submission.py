"""Sending jobs to SLURM, each once: what is sent is recorded (`Submission`) before it is sent.

Its code is copied, so that editing the tree changes no job that waits in the queue:

scratch/<study>/slurm/code-<hash of its content>/   the package, and the YAML files of grids and clusters, whether git
                                                    knows them or not; harness/source.json keeps the commit it was
                                                    taken from
"""

import hashlib
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.cluster_profile import SlurmProfile
from harness.config.spec import eval_id
from harness.errors import UserError
from harness.files import locked, make_folder, write_json
from harness.jobs.job import Job
from harness.jobs.recording import PACKAGE, SOURCE, source
from harness.slurm import client, task
from harness.store.records import Submission

Array = tuple[list[Job], dict[str, Any]]  # jobs of equal resources that are sent together, and what sbatch is told
ATTEMPTS = 100  # how often a job may reach its time limit and go on in the queue
GRID_FILES = ("*.yaml", "scales/*.yaml", "presets/*.yaml")  # not all below: it may be the folder one works in


@dataclass
class Sent:
    """What a submission came to: SLURM's ids of what it sent, and the jobs that it did not send.

    queued: SLURM has them already; with_less: some of these, with fewer measurements; later: the queue has no room.
    """

    ids: list[str] = field(default_factory=list)
    queued: list[Job] = field(default_factory=list)
    with_less: list[Job] = field(default_factory=list)
    later: list[Job] = field(default_factory=list)

    @property
    def arrays(self) -> list[str]:
        """SLURM's ids of the arrays."""
        return list(dict.fromkeys(id.partition("_")[0] for id in self.ids))


@dataclass(frozen=True)
class Snapshot:
    """Files to copy, by their names in the folder."""

    folder: Path
    files: dict[str, Path]

    @property
    def setup(self) -> str:
        """Return the line of shell by which a job runs this code: not what lies in the folder it is started in."""
        return f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(self.folder))}${{PYTHONPATH:+:$PYTHONPATH}}"

    def take(self) -> None:
        """Copy the files, where that was not done before."""
        if not self.folder.exists():
            make_folder(self.folder, self._copy)

    def _copy(self, folder: Path) -> None:
        for name, path in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        write_json(folder / PACKAGE.name / SOURCE, source(folder / PACKAGE.name))


def snapshot(grids: Collection[Path], folder: Path) -> Snapshot:
    """Name the code as it is now, in a folder of snapshots; `grids`: the folders of the grid files that are sent."""
    sources = [(PACKAGE, path) for path in sorted(PACKAGE.rglob("*")) if "__pycache__" not in path.parts]
    for grid in sorted({grid.resolve() for grid in (*grids, Path("clusters"))}):
        sources += [(grid, path) for pattern in GRID_FILES for path in sorted(grid.glob(pattern))]
    files = {
        f"{root.name}/{path.relative_to(root).as_posix()}": path
        for root, path in sources
        if path.is_file() and not path.name.startswith(".")
    }
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return Snapshot(folder.absolute() / f"code-{digest.hexdigest()[:12]}", files)


def measurement_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return what of the jobs needs no training, its weights being kept, as cheap jobs of one process each."""
    measuring = []
    for job in jobs:
        if ready := job.ready():
            alone = job.resources.model_copy(update={"nodes": 1, "processes": 1, "gpus": min(job.resources.gpus, 1)})
            measuring.append(replace(job, evaluations=ready, resources=alone))
    return measuring


def arrays_of(jobs: Sequence[Job], profile: SlurmProfile, limit: int, code: Snapshot) -> list[Array]:
    """Cut jobs into arrays of equal resources, none larger than `limit`, that run `code`; each has a name of its own.

    Raises:
        UserError: the profile's cluster cannot give what a job asks.
    """
    arrays = []
    for resources in dict.fromkeys(job.resources for job in jobs):
        alike = [job for job in jobs if job.resources == resources]
        for first in range(0, len(alike), limit):
            part, name = alike[first : first + limit], f"{jobs[0].store.study}-{uuid.uuid4().hex[:12]}"
            arrays.append((part, profile.parameters(resources, name, len(part), code.setup)))
    return arrays


def sbatch_texts(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> Iterator[str]:
    """Yield the sbatch files that `submit` would send; nothing is asked of SLURM, nor written.

    Raises:
        UserError: the profile's cluster cannot give what a job asks.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    folder = jobs[0].store.slurm_folder
    limit = client.DEFAULT_ARRAY_LIMIT if profile.array_limit == "auto" else profile.array_limit
    command = f"{sys.executable} -u -m submitit.core._submit {folder / '%j'}"
    for part, parameters in arrays_of(jobs, profile, limit, snapshot(grids, folder)):
        count = len(part) if len(part) > 1 else None
        yield _make_sbatch_string(command=command, folder=folder / "%j", map_count=count, **parameters)


def check_slurm() -> None:
    """Refuse before anything is written.

    Raises:
        UserError: there is no SLURM here.
    """
    client.ask("srun", "--version")


def submit(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> Sent:
    """Send to SLURM the jobs of one study that it does not hold already; `grids`: the folders of their grid files.

    Raises:
        UserError: SLURM does not answer, or it refused an array; those before it are sent, recorded and told.
    """
    folder = jobs[0].store.slurm_folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):  # a second terminal waits, and then finds the first one's jobs
        queue = client.unfinished_jobs()
        sent, todo = _compare(jobs, queue)
        if profile.max_submitted is not None:
            room = max(0, profile.max_submitted - len(queue))
            todo, sent.later = todo[:room], todo[room:]
        limit = client.array_limit() if profile.array_limit == "auto" else profile.array_limit
        code = snapshot(grids, folder)
        arrays = arrays_of(todo, profile, limit, code)
        code.take()
        for number, (part, parameters) in enumerate(arrays, 1):
            try:
                sent.ids += _send(part, parameters, folder)
            except UserError as error:
                left = len(todo) - len(sent.ids)
                raise UserError(
                    f"submit: SLURM refused array {number} of {len(arrays)}: {error}. Sent and recorded: "
                    f"{len(sent.ids)} trainings (job {', '.join(sent.arrays) or 'none'}); not sent: {left}, which the "
                    "same command sends"
                ) from None
    return sent


def _compare(jobs: Sequence[Job], queue: Collection[client.SlurmJob]) -> tuple[Sent, list[Job]]:
    """Tell the jobs that SLURM has from those that are to be sent; note those that it has with less to measure."""
    sent, todo, places = Sent(), [], {job.place: job for job in queue}
    for job in jobs:
        missing, submission = job.missing_ids(), Submission.read(job.scratch)
        if not missing:  # it ended since somebody looked, and before SLURM was asked
            continue
        if submission is None or not (queued := places.get(submission.place)):
            todo.append(job)
            continue
        if submission.job is None:  # nobody lived to write it down
            submission.model_copy(update={"job": queued.id}).write(job.scratch)
        sent.queued.append(job)
        if not missing <= set(submission.evaluations):
            sent.with_less.append(job)
    return sent, todo


def _send(jobs: Sequence[Job], parameters: dict[str, Any], folder: Path) -> list[str]:
    """Record an array's jobs under its name, send it, and record the ids that SLURM gave them.

    Where sbatch refuses, the records are restored, and the array is ended where SLURM took it all the same: that
    happens when the controller's answer is lost on the way, and such jobs would wait for files that nobody wrote.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    before, token, now = [Submission.read(job.scratch) for job in jobs], parameters["job_name"], time.time()
    submissions = []
    for index, job in enumerate(jobs):
        evaluations = tuple(eval_id(job.train, evaluation) for evaluation in job.evaluations)
        place = index if len(jobs) > 1 else None
        submissions.append(Submission(token=token, index=place, evaluations=evaluations, time=now))
    _record(jobs, submissions)
    executor = SlurmExecutor(folder=folder / "%j", max_num_timeout=ATTEMPTS)
    executor.update_parameters(**parameters)
    try:
        with client.own_environment(), executor.batch():
            sent = [executor.submit(task.SlurmTask(job)) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        client.scancel({job.id.partition("_")[0] for job in client.unfinished_jobs() if job.name == token})
        _record(jobs, before)
        raise UserError(str(error).strip().splitlines()[-1]) from None
    ids = [str(job.job_id) for job in sent]
    _record(jobs, [s.model_copy(update={"job": id}) for s, id in zip(submissions, ids, strict=True)])
    return ids


def _record(jobs: Sequence[Job], submissions: Sequence[Submission | None]) -> None:
    """Write each job's submission, or remove its record."""
    for job, submission in zip(jobs, submissions, strict=True):
        if submission:
            submission.write(job.scratch)
        else:
            (job.scratch / Submission.FILE).unlink(missing_ok=True)
