"""How the trainings of a study stand: what their own files tell, what SLURM adds to that, and what their jobs print."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from harness.config.grid import Table, all_runs
from harness.errors import UserError
from harness.files import tail
from harness.jobs.failures import ENDS, SIGNS_IN_OUTPUT
from harness.jobs.job import Job, jobs_for
from harness.slurm.bootstrap import REFUSED
from harness.slurm.client import SlurmJob, accounts, squeue
from harness.slurm.private import problem
from harness.store.records import Failure, FailureClass, Submission
from harness.store.status import TrainingStatus
from harness.store.store import Store


@dataclass(frozen=True)
class SlurmStatus:
    """One training. slurm_job: the last that was sent for it; None where it is not known.

    starting: SLURM runs its job, which has given no sign of life yet. held: it waits until somebody releases it.
    unknown: it was sent, and SLURM is silent. failure: its class, message: its reason, output: what its job printed
    last, or its traceback.
    """

    training: TrainingStatus
    job: Job
    state: Literal["done", "running", "starting", "queued", "held", "failed", "unknown", "waiting for a command"]
    slurm_job: str | None = None
    failure: FailureClass | None = None
    message: str = ""
    output: str = ""


@dataclass(frozen=True)
class StudyStatus:
    """All trainings that a study's grids want; strays: how many jobs SLURM has of others."""

    trainings: list[SlurmStatus]
    strays: int


@dataclass(frozen=True)
class Answer:
    """What SLURM tells of our jobs: those of its queue, by name and index, and how others ended, by id."""

    queue: Mapping[tuple[str, int | None], SlurmJob] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False


def slurm_status(
    tables: Sequence[Table], trainings: Sequence[TrainingStatus], store: Store, data: Path = Path("data")
) -> StudyStatus:
    """Return how a study stands that has these tables and trainings; where SLURM is silent, as its files alone tell."""
    jobs = {job.train_id: job for job in jobs_for(all_runs(tables), store, data)}
    records: dict[str, Submission] = {}
    with suppress(PermissionError):  # of another user, whose scratch is closed: the results tell how it stands
        records = store.submissions()
    answer = _ask(records.values())
    statuses = [status_of(t, jobs[t.train_id], records.get(t.train_id), answer) for t in trainings]
    return StudyStatus(statuses, sum(r.place in answer.queue for id, r in records.items() if id not in jobs))


def _ask(records: Collection[Submission]) -> Answer:
    """Ask what SLURM has, and of what it has forgotten ask its accounting, which may be down."""
    if not records:
        return Answer()
    try:
        jobs = squeue()
    except UserError:
        return Answer(silent=True)
    ends = {job.id: job.state for job in jobs if job.has_ended}
    forgotten = {record.job for record in records if record.job} - {job.id for job in jobs}
    with suppress(UserError):
        ends |= {id: state for id, state, _ in accounts(forgotten)}
    return Answer({job.place: job for job in jobs if not job.has_ended}, ends)


def status_of(training: TrainingStatus, job: Job, record: Submission | None, answer: Answer) -> SlurmStatus:
    """Join what a training's files, the record of its submission and SLURM tell."""
    queued, sent_as = (answer.queue.get(record.place), record.job) if record else (None, None)
    status = partial(SlurmStatus, training, job, slurm_job=queued.id if queued else sent_as)
    if training.state == "done":
        return status("done")
    pending = queued is not None and queued.state == "PENDING"
    if training.state == "running" and not pending:  # else it was queued again a moment ago
        return status("running")
    if queued and pending and "held" in queued.reason.lower():  # as where a node could not start it
        return status("held", message=queued.reason)
    if queued:
        message = training.reason if training.state == "interrupted" else ""
        return status("starting" if queued.state == "RUNNING" else "queued", message=message)
    failure = Failure.peek(job.folder)
    stored = status("waiting for a command")
    if failure:
        stored = status("failed", failure=failure.kind, message=failure.message, output=failure.traceback)
    if record is None or (failure and (failure.time or 0) >= record.time):
        return stored
    if record.cancelled:
        return status("failed", failure="cancelled", message="by harness cancel")
    if record.job and answer.silent:
        return status("unknown", message="it was sent, and SLURM does not answer")
    end = answer.ends.get(record.job or "")
    lacks_results = end == "COMPLETED" and _lacks(job, record)
    if record.job is None or not (lacks_results or end in ENDS or end is None):
        return stored
    reason = "; ".join(filter(None, (f"SLURM: {end}" if end else "nothing tells of its end", training.reason)))
    if lacks_results:
        reason = f"it ended without its results: harness logs {job.train_id}"
    kind, output = ENDS.get(end or "", "killed"), tail(output_path(job.store, record.job))
    if kind == "killed":  # only its output may tell more
        kind = next((sign for words, sign in SIGNS_IN_OUTPUT.items() if words in output), kind)
        reason = "; ".join(filter(None, (reason, refusal(output), problem(job.store.slurm_folder))))
    return status("failed", failure=kind, message=reason, output=output)


def _lacks(job: Job, record: Submission) -> bool:
    """Tell whether results of a job are not there; what cannot be read is there, and its state says what is wrong."""
    with suppress(UserError):
        return bool(job.missing_ids() & set(record.evaluations))
    return False


def refusal(output: str) -> str:
    """Return the line by which a job says that what lies there is not what was sent; "" where there is none."""
    return next((line for line in output.splitlines() if line.startswith(REFUSED)), "")


def output_path(store: Store, job: str) -> Path:
    """Return the file that one of SLURM's jobs writes."""
    return store.slurm_folder / job / f"{job}_0_log.out"


def log_of(store: Store, train_id: str) -> Path:
    """Return the file that a training's last job in SLURM writes.

    Raises:
        UserError: it was not sent to SLURM, or has written nothing yet.
    """
    submission = Submission.peek(store.scratch_folder(train_id))
    if submission is None or submission.job is None:
        raise UserError(f"{train_id}: no job of SLURM's made this training; 'harness show {train_id}' tells the rest")
    path = output_path(store, submission.job)
    if not path.is_file():
        raise UserError(f"{train_id}: its job {submission.job} has written nothing yet ({path})")
    return path
