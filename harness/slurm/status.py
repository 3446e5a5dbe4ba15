"""How the trainings of a study stand with SLURM, beside what their folders tell."""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from harness.config.spec import eval_id
from harness.errors import UserError
from harness.jobs.failures import ENDS, SIGNS_IN_OUTPUT
from harness.jobs.job import Job
from harness.slurm.client import SlurmJob, end_states, squeue
from harness.slurm.logs import log_of
from harness.store.records import Failure, FailureClass
from harness.store.store import RunStatus, Store
from harness.store.submissions import Submission, read_submission, submissions

TAIL_BYTES = 4000


@dataclass(frozen=True)
class SlurmStatus:
    """One training that is not done. slurm_job: the last that was sent for it; None where it is not known.

    starting: SLURM runs its job, which has given no sign of life yet. held: it waits until somebody releases it.
    unknown: it was sent, and SLURM is silent. failure: its class, and message: its reason.
    """

    job: Job
    state: Literal["running", "starting", "queued", "held", "failed", "unknown", "waiting for a command"]
    slurm_job: str | None = None
    failure: FailureClass | None = None
    message: str = ""


@dataclass(frozen=True)
class Answer:
    """What SLURM tells of our jobs: those of its queue, by name and index, and how others ended, by id."""

    queue: Mapping[tuple[str, int | None], SlurmJob] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False


def slurm_status(jobs: Sequence[Job]) -> list[SlurmStatus]:
    """Return how each training that lacks something stands; where SLURM is silent, as its folder alone tells."""
    records = {job.train_id: read_submission(job.store, job.train_id) for job in jobs}
    answer = _ask([record for record in records.values() if record])
    return [status_of(job, records[job.train_id], answer) for job in jobs if job.missing()]


def queued_for_no_grid(store: Store, train_ids: Collection[str]) -> int:
    """Return how many jobs SLURM has of trainings of a study other than some; 0 where it does not answer."""
    places = {record.place for id, record in submissions(store).items() if id not in train_ids}
    try:
        return sum(not job.has_ended and job.place in places for job in squeue()) if places else 0
    except UserError:
        return 0


def _ask(records: Sequence[Submission]) -> Answer:
    """Ask what SLURM has, and of what it has forgotten ask its accounting, which may be down."""
    if not records:
        return Answer()
    try:
        jobs = squeue()
    except UserError:
        return Answer(silent=True)
    ends = {job.id: job.state for job in jobs if job.has_ended}
    remembered = {job.id for job in jobs}
    with suppress(UserError):
        ends |= end_states([record.job for record in records if record.job and record.job not in remembered])
    return Answer({job.place: job for job in jobs if not job.has_ended}, ends)


def status_of(job: Job, record: Submission | None, answer: Answer) -> SlurmStatus:
    """Join what a training's folder, its record and SLURM tell."""
    missing = job.missing()
    status = job.store.status(job.train_id, eval_id(job.train, missing[0])) if missing else RunStatus("done")
    queued = answer.queue.get(record.place) if record else None
    id = queued.id if queued else record.job if record else None
    if status.state == "running" and not (queued and queued.state == "PENDING"):  # queued again a moment ago
        return SlurmStatus(job, "running", id)
    if queued and queued.is_held:
        return SlurmStatus(job, "held", id, message=queued.reason)
    if queued:
        message = status.reason if status.state == "interrupted" else ""
        return SlurmStatus(job, "starting" if queued.state == "RUNNING" else "queued", id, message=message)
    return _without_queue(job, record, answer, status)


def _without_queue(job: Job, record: Submission | None, answer: Answer, status: RunStatus) -> SlurmStatus:
    """Return how a training stands that nothing works at."""
    id, end = (record.job, answer.ends.get(record.job or "", "")) if record else (None, "")

    def failed(failure: FailureClass, message: str) -> SlurmStatus:
        return SlurmStatus(job, "failed", id, failure, message)

    stored = Failure.read(job.store.run_folder(job.train_id))
    if stored and (record is None or (stored.time or 0) >= record.time):
        return failed(stored.kind, stored.message)
    if record and record.cancelled:
        return failed("cancelled", "by harness cancel")
    if end in ENDS:  # it had no time to tell it itself
        failure = _class_in_output(job) if ENDS[end] == "killed" else ENDS[end]
        return failed(failure, _with_reason(f"SLURM: {end}", status))
    if id and answer.silent:
        return SlurmStatus(job, "unknown", id, message="it was sent, and SLURM does not answer")
    if record and end == "COMPLETED" and job.missing_ids() & set(record.evaluations):
        return failed(_class_in_output(job), f"it ended without its results: harness logs {job.train_id}")
    if id and not end:
        return failed(_class_in_output(job), _with_reason("nothing tells of its end", status))
    return failed(stored.kind, stored.message) if stored else SlurmStatus(job, "waiting for a command", id)


def _with_reason(message: str, status: RunStatus) -> str:
    return f"{message}; {status.reason}" if status.reason else message


def _class_in_output(job: Job) -> FailureClass:
    """Return the class of a job's end that only its output may tell; "killed" where that does not either."""
    try:
        with log_of(job.store, job.train_id).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except (UserError, OSError):
        return "killed"
    return next((failure for words, failure in SIGNS_IN_OUTPUT.items() if words in tail), "killed")
