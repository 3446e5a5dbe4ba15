"""How the trainings of a study stand with SLURM, beside what their folders tell."""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from harness.config.spec import eval_id
from harness.errors import UserError
from harness.jobs.failures import ENDS, TOLD
from harness.jobs.job import Job
from harness.slurm.client import Queued, ends, listed
from harness.slurm.logs import log_of
from harness.slurm.submission import Submission, read_submission, submissions
from harness.store.records import Failure, FailureClass
from harness.store.store import RunStatus, Store

TAIL_BYTES = 4000


@dataclass(frozen=True)
class Condition:
    """One training that is not done. slurm_job: the last that was sent for it; None where it is not known.

    starting: SLURM runs its job, which has given no sign of life yet. held: it waits until somebody releases it.
    unknown: it was sent, and SLURM is silent.
    """

    job: Job
    state: Literal["running", "starting", "queued", "held", "failed", "unknown", "waiting for a command"]
    slurm_job: str | None = None
    kind: FailureClass | None = None
    message: str = ""


@dataclass(frozen=True)
class Answer:
    """What SLURM tells of our jobs: those that it holds, by name and index, and how others ended, by id."""

    held: Mapping[tuple[str, int | None], Queued] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False


def conditions(jobs: Sequence[Job]) -> list[Condition]:
    """Return how each training that lacks something stands; where SLURM is silent, as its folder alone tells."""
    records = {job.train_id: read_submission(job.store, job.train_id) for job in jobs}
    answer = _ask([record for record in records.values() if record])
    return [_condition(job, records[job.train_id], answer) for job in jobs if job.missing()]


def held_for_no_grid(store: Store, wanted: Collection[str]) -> int:
    """Return how many jobs SLURM holds of trainings of a study that are not `wanted`; 0 where it does not answer."""
    places = {record.place for id, record in submissions(store).items() if id not in wanted}
    try:
        return sum(not job.ended and job.place in places for job in listed()) if places else 0
    except UserError:
        return 0


def _ask(records: Sequence[Submission]) -> Answer:
    """Ask what SLURM holds, and of what it has forgotten ask its accounting, which may be down."""
    if not records:
        return Answer()
    try:
        found = listed()
    except UserError:
        return Answer(silent=True)
    held, over = {job.place: job for job in found if not job.ended}, {job.id: job.state for job in found if job.ended}
    known = {job.id for job in found}
    with suppress(UserError):
        over |= ends([record.job for record in records if record.job and record.job not in known])
    return Answer(held, over)


def _condition(job: Job, record: Submission | None, answer: Answer) -> Condition:
    missing = job.missing()
    status = job.store.status(job.train_id, eval_id(job.train, missing[0])) if missing else RunStatus("done")
    found = answer.held.get(record.place) if record else None
    id = found.id if found else record.job if record else None
    if status.state == "running" and not (found and found.state == "PENDING"):  # queued again a moment ago
        return Condition(job, "running", id)
    if found and found.held:
        return Condition(job, "held", id, message=found.reason)
    if found:
        state: Literal["starting", "queued"] = "starting" if found.state == "RUNNING" else "queued"
        return Condition(job, state, id, message=status.reason if status.state == "interrupted" else "")
    return _over(job, record, answer, status)


def _over(job: Job, record: Submission | None, answer: Answer, status: RunStatus) -> Condition:
    """Return how a training stands that nothing works at."""
    id, end = (record.job, answer.ends.get(record.job or "", "")) if record else (None, "")
    failure = Failure.read(job.store.run_folder(job.train_id))
    told = Condition(job, "failed", id, failure.kind, failure.message) if failure else None
    if told and failure and (record is None or (failure.time or 0) >= record.time):
        return told
    if record and record.cancelled:
        return Condition(job, "failed", id, "cancelled", "by harness cancel")
    if end in ENDS:  # it had no time to tell it itself
        kind = _told(job) if ENDS[end] == "killed" else ENDS[end]
        return Condition(job, "failed", id, kind, f"SLURM: {end}; {status.reason}".rstrip("; "))
    if id and answer.silent:
        return Condition(job, "unknown", id, message="it was sent, and SLURM does not answer")
    if record and end == "COMPLETED" and {eval_id(job.train, e) for e in job.missing()} & set(record.evaluations):
        return Condition(job, "failed", id, _told(job), f"it ended without its results: harness logs {job.train_id}")
    if id and not end:
        return Condition(job, "failed", id, _told(job), f"nothing tells of its end; {status.reason}".rstrip("; "))
    return told or Condition(job, "waiting for a command", id)


def _told(job: Job) -> FailureClass:
    """Return the class of a job's end that only its output may tell; "killed" where that does not either."""
    try:
        with log_of(job.store, job.train_id).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except (UserError, OSError):
        return "killed"
    return next((kind for words, kind in TOLD.items() if words in tail), "killed")
