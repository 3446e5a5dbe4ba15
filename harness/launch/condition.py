"""How the trainings of a study stand with SLURM, beside what their folders tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import UserError
from harness.files import read_json
from harness.launch.failures import ENDS, FailureClass, class_stored
from harness.launch.job import Job
from harness.launch.queue import Queued, ends, queued
from harness.launch.submission import Submission, read_submission
from harness.spec import eval_id


@dataclass(frozen=True)
class Condition:
    """One training that is not done. slurm_job: the last that was sent for it; None where it is not known."""

    job: Job
    state: Literal["running", "queued", "failed", "waiting for a command"]
    slurm_job: str | None = None
    kind: FailureClass | None = None
    message: str = ""


def conditions(jobs: Sequence[Job]) -> list[Condition]:
    """Return how each training that lacks something stands; where SLURM is silent, as its folder alone tells."""
    records = {job.train_id: read_submission(job.store, job.train_id) for job in jobs}
    held, over = _ask([record for record in records.values() if record])
    return [_condition(job, records[job.train_id], held, over) for job in jobs if job.missing()]


def _ask(records: Sequence[Submission]) -> tuple[list[Queued], dict[str, str]]:
    """Return what SLURM holds and how our jobs ended; nothing of what it does not answer."""
    if not records:
        return [], {}
    held: list[Queued] = []
    over: dict[str, str] = {}
    try:
        held = queued()
        over = ends([record.job for record in records if record.job])
    except UserError:
        pass
    return held, over


def _condition(job: Job, record: Submission | None, held: Sequence[Queued], over: dict[str, str]) -> Condition:
    missing = job.missing()
    status = job.store.status(job.train_id, eval_id(job.train, missing[0])) if missing else None
    found, id = (record.found(held) if record else None), record.job if record else None
    if status and status.state == "running":
        return Condition(job, "running", id)
    if found:
        return Condition(job, "queued", found.id)
    error = read_json(job.store.run_folder(job.train_id) / "error.json")
    if isinstance(error, dict):
        return Condition(job, "failed", id, class_stored(error), str(error.get("message", "")))
    if record and record.cancelled:
        return Condition(job, "failed", id, "cancelled", "by harness cancel")
    end = over.get(id or "", "")
    if end in ENDS:
        return Condition(job, "failed", id, ENDS[end], f"SLURM: {end}")
    return Condition(job, "waiting for a command", id)
