"""Sending jobs to SLURM, each once: what is sent is recorded (`Submission`) before it is sent.

scratch/<study>/slurm/   their sender's alone, for it is what they execute: the code (`snapshot`), and of each array
                         its sbatch file <name>.sh and its tasks <name>.json, whose hash stands in the first
"""

import hashlib
import json
import shlex
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config.cluster_profile import SlurmProfile
from harness.config.spec import eval_id
from harness.errors import UserError
from harness.files import locked
from harness.jobs.job import Job, jobs_to_json
from harness.slurm import client
from harness.slurm.bootstrap import Untrusted, check_own
from harness.slurm.private import private_folder, problem, write_private
from harness.slurm.sbatch_script import Script, script
from harness.slurm.snapshot import Snapshot, snapshot
from harness.store.records import Submission, SubmitOptions
from harness.store.store import Store

TASK = "harness.slurm.task"  # what each job starts; it is loaded there, and not here
Array = tuple[list[Job], Script]  # jobs of equal resources that are sent together


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


def measurement_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return what of the jobs needs no training, its weights being kept, as cheap jobs of one process each."""
    measuring = []
    for job in jobs:
        if ready := job.ready():
            alone = job.resources.model_copy(update={"nodes": 1, "processes": 1, "gpus": min(job.resources.gpus, 1)})
            measuring.append(replace(job, evaluations=ready, resources=alone))
    return measuring


@dataclass(frozen=True)
class Prepared:
    """What a submission would send, and what of the jobs it would not."""

    sent: Sent
    code: Snapshot
    arrays: list[Array]


def prepare(
    jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path], queue: Collection[client.SlurmJob], limit: int
) -> Prepared:
    """Cut what SLURM does not hold yet into arrays of equal resources, none larger than `limit`.

    Raises:
        UserError: the profile's cluster cannot give what a job asks, or the folder of jobs is not the user's own.
    """
    folder, code = jobs[0].store.slurm_folder, snapshot(grids)
    if wrong := problem(folder):
        raise UserError(wrong)
    sent, todo = _compare(jobs, queue)
    if profile.max_submitted is not None:
        room = max(0, profile.max_submitted - len(queue))
        todo, sent.later = todo[:room], todo[room:]
    arrays = []
    for resources in dict.fromkeys(job.resources for job in todo):
        alike = [job for job in todo if job.resources == resources]
        for part in (alike[first : first + limit] for first in range(0, len(alike), limit)):
            tasks = jobs_to_json(part)
            text = script(profile, resources, _name(part, tasks), len(part), folder, code, TASK, tasks)
            arrays.append((part, text))
    return Prepared(sent, code, arrays)


def _name(jobs: Sequence[Job], tasks: bytes) -> str:
    """Name an array after its tasks and what was sent for them before, so that none has the name of an earlier one."""
    digest = hashlib.sha256(tasks)
    for job in jobs:
        before = Submission.read(job.scratch)
        digest.update(f"\n{before.token} {before.time}".encode() if before else b"\n")
    return f"{jobs[0].store.study}-{digest.hexdigest()[:12]}"


def sbatch_texts(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> tuple[list[str], str]:
    """Return the sbatch files that `submit` would send now, and nothing is written; and a note.

    The note tells that SLURM does not answer: then they are those for an empty queue. "" where it does.

    Raises:
        UserError: as `prepare`.
    """
    try:
        queue, limit, note = client.unfinished_jobs(patience=0), _limit(profile), ""
    except UserError as error:
        queue, note = [], f"as for an empty queue, for SLURM was not asked: {error}"
        limit = client.DEFAULT_ARRAY_LIMIT if profile.array_limit == "auto" else profile.array_limit
    return [text.text for _, text in prepare(jobs, profile, grids, queue, limit).arrays], note


def _limit(profile: SlurmProfile) -> int:
    return client.array_limit() if profile.array_limit == "auto" else profile.array_limit


def check_slurm() -> None:
    """Refuse before anything is written.

    Raises:
        UserError: there is no SLURM here.
    """
    client.ask("srun", "--version")


def submit(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path]) -> Sent:
    """Send to SLURM the jobs of one study that it does not hold already; `grids`: the folders of their grid files.

    Raises:
        UserError: as `prepare`; SLURM does not answer, or it refused an array; those before it are sent, recorded and
            told.
    """
    folder = jobs[0].store.slurm_folder
    with private_folder(folder) as here, locked(here / "lock"):  # a second terminal waits, then finds the first's jobs
        queue = client.unfinished_jobs()
        prepared = prepare(jobs, profile, grids, queue, _limit(profile))
        sent, arrays = prepared.sent, prepared.arrays
        _record_ids(sent.queued, queue)
        prepared.code.write(here, folder)
        for number, (part, text) in enumerate(arrays, 1):
            try:
                sent.ids += _send(part, text, here)
            except UserError as error:
                left = sum(len(part) for part, _ in arrays) - len(sent.ids)
                raise UserError(
                    f"submit: SLURM refused array {number} of {len(arrays)}: {error}. Sent and recorded: "
                    f"{len(sent.ids)} trainings (job {', '.join(sent.arrays) or 'none'}); not sent: {left}, which the "
                    "same command sends"
                ) from None
    return sent


def remember(options: SubmitOptions, store: Store) -> None:
    """Write what a retry takes over from this submission.

    Raises:
        UserError: as `private_folder`.
    """
    with private_folder(store.slurm_folder) as here:
        write_private(here / options.FILE, json.dumps(options.content).encode())


def remembered(store: Store) -> SubmitOptions:
    """Return what the last submission left for a retry.

    Raises:
        UserError: others could have written it: a profile has commands, and theirs are not taken.
    """
    path = store.slurm_folder / SubmitOptions.FILE
    if wrong := problem(store.slurm_folder):
        raise UserError(wrong)
    try:
        check_own(path)
    except Untrusted as error:
        rest = "a retry takes no profile from it; say --profile and --data after: rm"
        raise UserError(f"{error}; {rest} {shlex.quote(str(path))}") from None
    except OSError:  # it is missing
        return SubmitOptions()
    return SubmitOptions.read(store.slurm_folder) or SubmitOptions()


def _compare(jobs: Sequence[Job], queue: Collection[client.SlurmJob]) -> tuple[Sent, list[Job]]:
    """Tell the jobs that SLURM has from those that are to be sent; note those that it has with less to measure."""
    sent, todo, places = Sent(), [], {job.place for job in queue}
    for job in jobs:
        missing, submission = job.missing_ids(), Submission.read(job.scratch)
        if not missing:  # it ended since somebody looked, and before SLURM was asked
            continue
        if submission is None or submission.place not in places:
            todo.append(job)
            continue
        sent.queued.append(job)
        if not missing <= set(submission.evaluations):
            sent.with_less.append(job)
    return sent, todo


def _record_ids(jobs: Sequence[Job], queue: Collection[client.SlurmJob]) -> None:
    """Write down SLURM's ids of queued jobs where nobody lived to do so."""
    ids = {job.place: job.id for job in queue}
    for job in jobs:
        submission = Submission.read(job.scratch)
        if submission and submission.job is None:
            submission.model_copy(update={"job": ids[submission.place]}).write(job.scratch)


def _send(jobs: Sequence[Job], text: Script, here: Path) -> list[str]:
    """Record an array's jobs under its name, send it, and record the ids that SLURM gave them.

    Where sbatch refuses, the records are restored, and the array is ended where SLURM took it all the same: that
    happens when the controller's answer is lost on the way, and such jobs would do what nobody knows of.
    """
    before, now = [Submission.read(job.scratch) for job in jobs], time.time()
    submissions = []
    for index, job in enumerate(jobs):
        evaluations = tuple(eval_id(job.train_id, evaluation) for evaluation in job.evaluations)
        place = index if len(jobs) > 1 else None
        submissions.append(Submission(token=text.name, index=place, evaluations=evaluations, time=now))
    _record(jobs, submissions)
    try:
        array = text.send(here)
    except UserError:
        client.scancel({job.id.partition("_")[0] for job in client.unfinished_jobs() if job.name == text.name})
        _record(jobs, before)
        raise
    ids = [f"{array}_{index}" if len(jobs) > 1 else array for index in range(len(jobs))]
    for id in ids:  # where SLURM writes their output
        (here / id).mkdir(mode=0o700, exist_ok=True)
    _record(jobs, [s.model_copy(update={"job": id}) for s, id in zip(submissions, ids, strict=True)])
    return ids


def _record(jobs: Sequence[Job], submissions: Sequence[Submission | None]) -> None:
    """Write each job's submission, or remove its record."""
    for job, submission in zip(jobs, submissions, strict=True):
        if submission:
            submission.write(job.scratch)
        else:
            (job.scratch / Submission.FILE).unlink(missing_ok=True)
