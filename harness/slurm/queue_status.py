"""How the trainings of a study stand: what their own files tell, what SLURM adds to that, and what their jobs print."""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from harness.config.grid import Table, all_runs
from harness.errors import UserError
from harness.files import is_file, tail
from harness.jobs.failures import ENDS, SIGNS_IN_OUTPUT
from harness.jobs.job import Job, jobs_for
from harness.slurm.bootstrap import REFUSED, user_name
from harness.slurm.client import SlurmJob, accounts, named_jobs
from harness.slurm.private import problem
from harness.store.job_part import JobPart, current_division
from harness.store.records import Failure, FailureClass, Submission
from harness.store.status import TrainingStatus, signs
from harness.store.store import Store

# By what needs somebody first, where the parts of a training are in several.
SlurmState = Literal["failed", "held", "running", "starting", "queued", "unknown", "waiting for a command", "done"]
URGENCY: tuple[SlurmState, ...] = get_args(SlurmState)


@dataclass(frozen=True)
class SlurmStatus:
    """One training. slurm_job: the last that was sent for it; None where it is not known.

    starting: SLURM runs its job, which has given no sign of life yet. held: it waits until somebody releases it.
    unknown: it was sent, and SLURM is silent. failure: its class, message: its reason, output: what its job printed
    last, or its traceback.
    """

    training: TrainingStatus
    job: Job
    state: SlurmState
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
    records: dict[str, list[Submission]] = {}
    with suppress(PermissionError):  # of another user, whose scratch is closed: the results tell how it stands
        records = {name: list(of_training.values()) for name, of_training in store.submissions().items()}
    answer = _ask([record for of_training in records.values() for record in of_training])
    statuses = [training_status(t, jobs[t.train_id], records.get(t.train_id, []), answer) for t in trainings]
    strays = [record for name, of_training in records.items() if name not in jobs for record in of_training]
    return StudyStatus(statuses, sum(record.place in answer.queue for record in strays))


def _ask(records: Collection[Submission]) -> Answer:
    """Ask what SLURM has, whoever sent it, and of what it has forgotten ask its accounting, which may be down."""
    if not records:
        return Answer()
    try:
        jobs = named_jobs(record.token for record in records)
    except UserError:
        return Answer(silent=True)
    ends = {job.id: job.state for job in jobs if job.has_ended}
    forgotten = {record.job for record in records if record.job} - {job.id for job in jobs}
    with suppress(UserError):
        ends |= {id: state for id, state, _ in accounts(forgotten)}
    return Answer({job.place: job for job in jobs if not job.has_ended}, ends)


def training_status(training: TrainingStatus, job: Job, records: Sequence[Submission], answer: Answer) -> SlurmStatus:
    """Join what a training's files, the records of its submissions and SLURM tell.

    Of one in parts it is the state of those that are next, of these what needs somebody first: what comes after them
    waits for them, and SLURM ends it where one of them fails.
    """
    by_name = {record.part: record for record in sorted(records, key=lambda record: record.time)}
    lacking = [] if training.state in ("done", "unreadable") else _lacking(job, current_division(reversed(by_name)))
    if not lacking:
        return status_of(training, job, by_name.get("whole") or by_name.get("train"), answer)
    following = [part for part in lacking if part.part.stage == lacking[0].part.stage]
    statuses = [_part_status(training, part, by_name.get(part.part.name), answer) for part in following]
    status = min(statuses, key=lambda s: URGENCY.index(s.state))
    held = [s.slurm_job for s in statuses if s.state == "held" == status.state and s.slurm_job]
    message = ": ".join(filter(None, (status.job.part.words, status.message)))
    return replace(status, training=training, job=job, slurm_job=",".join(held) or status.slurm_job, message=message)


def _lacking(job: Job, parts: Sequence[JobPart]) -> list[Job]:
    """Return the jobs of the parts that are not done; none where what is there cannot be read."""
    with suppress(UserError):
        return [part for part in job.in_parts(parts) if part.missing()]
    return []


def _part_status(training: TrainingStatus, job: Job, record: Submission | None, answer: Answer) -> SlurmStatus:
    by_files = signs(job.folder)
    return status_of(replace(training, state=by_files.state, reason=by_files.reason), job, record, answer)


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
    kind, output = ENDS.get(end or "", "killed"), tail(output_path(job.store, record.job, record.folder))
    if kind == "killed":  # only its output may tell more
        kind = next((sign for words, sign in SIGNS_IN_OUTPUT.items() if words in output), kind)
        reason = "; ".join(filter(None, (reason, refusal(output), problem_of(job.store, record))))
    return status("failed", failure=kind, message=reason, output=output)


def _lacks(job: Job, record: Submission) -> bool:
    """Tell whether results of a job are not there; what cannot be read is there, and its state says what is wrong."""
    with suppress(UserError):
        return bool(job.missing_ids() & set(record.evaluations))
    return False


def refusal(output: str) -> str:
    """Return the line by which a job says that what lies there is not what was sent; "" where there is none."""
    return next((line for line in output.splitlines() if line.startswith(REFUSED)), "")


def problem_of(store: Store, record: Submission) -> str:
    """Return what is wrong with the folder that one's own job was sent from; "" also of another's, which is theirs."""
    if record.user not in ("", user_name(os.geteuid())):
        return ""
    return problem(store.slurm_folder.with_name(record.folder))


def output_path(store: Store, job: str, folder: str = Submission.model_fields["folder"].default) -> Path:
    """Return the file that one of SLURM's jobs writes, which was sent from a folder."""
    place = store.slurm_folder.with_name(folder)
    before = place / job / f"{job}_0_log.out"  # until each job's output had a folder no more
    return before if is_file(before) else place / f"{job}_0_log.out"


def log_of(store: Store, train_id: str, part: str = "") -> Path:
    """Return the file that a training's last job in SLURM writes: of several the one that has written last, or that of
    a part by its name.

    Raises:
        UserError: it was not sent to SLURM, or has written nothing yet.
    """
    records = [record for record in store.submissions_of(train_id).values() if record.job]
    if not records:
        raise UserError(f"{train_id}: no job of SLURM's made this training; 'harness show {train_id}' tells the rest")
    if part and part not in (names := [record.part for record in records]):
        raise UserError(f"{train_id}/{part}: none of its jobs is named so; they are {', '.join(names)}")
    chosen = [record for record in records if part in ("", record.part)]
    paths = {output_path(store, str(record.job), record.folder): record for record in chosen}
    written = [path for path in paths if path.is_file()]
    if not written:
        path, record = next(iter(paths.items()))
        raise UserError(f"{train_id}: its job {record.job} has written nothing yet ({path})")
    return max(written, key=lambda path: path.stat().st_mtime)
