"""How the trainings of a study stand: what their own files tell, what launchers add, and what their jobs print."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.grid import Table, all_runs
from harness.errors import UserError
from harness.files import is_file, tail
from harness.jobs.failures import ENDS, SIGNS_IN_OUTPUT
from harness.jobs.job import Job, jobs_for
from harness.launchers.bootstrap import REFUSED, user_name
from harness.launchers.launcher import QueuedJob, launcher_named, unfinished
from harness.launchers.pending import pending
from harness.launchers.private import problem
from harness.launchers.sent_before import by_launcher
from harness.store.job_part import JobPart, current_division
from harness.store.records import (
    HEARTBEAT_STALE_SECONDS,
    Environment,
    Failure,
    FailureClass,
    Heartbeat,
    Submission,
)
from harness.store.status import State, TrainingStatus, seconds_in_words, signs, training_statuses
from harness.store.store import Store

# By what needs somebody first, where the parts of a training are in several.
URGENCY: tuple[State, ...] = (
    "failed", "diverged", "unreadable", "held", "suspended", "running", "starting", "ending", "waiting", "unknown",
    "interrupted", "not run", "skipped", "done",
)  # fmt: skip
QUEUE_SECONDS = 15.0  # after which who looks all the time asks SLURM again
SUSPENDED = ("SUSPENDED", "STOPPED")
HELD = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
STARTING = ("RUNNING", "CONFIGURING", "RESIZING")


@dataclass(frozen=True)
class SlurmStatus:
    """One training. training: how it stands by its files and by what SLURM says, joined.

    slurm_job: the last that was sent for it, and user: by whom; None and "" where that is not known. failure: its
    class; message: why, or why it waits; output: what its job printed last, or its traceback. never: as it is, it never
    starts; mend: what helps where it waits or is held.
    """

    training: TrainingStatus
    job: Job
    slurm_job: str | None = None
    user: str = ""
    failure: FailureClass | None = None
    message: str = ""
    output: str = ""
    never: bool = False
    mend: str = ""
    launcher: str = "SLURM"  # in words

    @property
    def state(self) -> State:
        """How it stands."""
        return self.training.state


@dataclass(frozen=True)
class StudyStatus:
    """All trainings that a study's grids want; strays: how many jobs are in queues of others. silent: those that
    were asked and do not answer."""

    trainings: list[SlurmStatus]
    strays: int
    silent: tuple[str, ...] = ()

    @property
    def joined(self) -> list[TrainingStatus]:
        """How the trainings stand."""
        return [status.training for status in self.trainings]


@dataclass(frozen=True)
class Answer:
    """What launchers tell of jobs: those of their queues, by name and index, and how others ended, by id.

    silent: those launchers that do not answer. hidden: one tells nobody of the jobs of others. shared: how many
    trainings each job is for.
    """

    queue: Mapping[tuple[str, int | None], QueuedJob] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    hidden: bool = False
    shared: Mapping[tuple[str, int | None], int] = field(default_factory=dict)


class Asker:
    """Asks launchers about submissions; again only after some seconds, for who looks all the time."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds, self.last, self.answer = seconds, -math.inf, Answer()

    def __call__(self, records: Collection[Submission]) -> Answer:
        """Return what they tell, or told a moment ago."""
        if time.monotonic() - self.last >= self.seconds:
            self.answer, self.last = _ask(records), time.monotonic()
        return self.answer


def slurm_status(
    tables: Sequence[Table], store: Store, data: Path = Path("data"), ask: Callable[..., Answer] | None = None
) -> StudyStatus:
    """Return how a study stands that has these tables, by its files and SLURM; where that is silent, by its files."""
    jobs = {job.train_id: job for job in jobs_for(all_runs(tables), store, data)}
    records: dict[str, list[Submission]] = {}
    with suppress(PermissionError):  # of another user, whose scratch is closed: the results tell how it stands
        records = {name: list(of_training.values()) for name, of_training in store.submissions().items()}
    trainings = training_statuses(tables, store)
    done = {training.train_id for training in trainings if training.state == "done"}
    answer = (ask or _ask)([r for name, of_training in records.items() if name not in done for r in of_training])
    answer = replace(answer, shared=Counter(record.place for of_training in records.values() for record in of_training))
    statuses = [training_status(t, jobs[t.train_id], records.get(t.train_id, []), answer) for t in trainings]
    strays = [record for name, of_training in records.items() if name not in jobs for record in of_training]
    silent = tuple(map(title, sorted(answer.silent)))
    return StudyStatus(statuses, sum(record.place in answer.queue for record in strays), silent)


def _ask(records: Collection[Submission]) -> Answer:
    """Ask each launcher what it has of submissions, whoever sent them."""
    answers = [_ask_one(name, those) for name, those in by_launcher(records).items()]
    return Answer(
        {place: job for answer in answers for place, job in answer.queue.items()},
        {id: end for answer in answers for id, end in answer.ends.items()},
        frozenset().union(*(answer.silent for answer in answers)),
        any(answer.hidden for answer in answers),
    )


def _ask_one(name: str, records: Collection[Submission]) -> Answer:
    """Ask one launcher, and of what its queue has forgotten what it knows otherwise."""
    try:
        launcher = launcher_named(name)
        jobs = launcher.ask({record.token for record in records})
    except UserError:
        return Answer(silent=frozenset([name]))
    ends = {job.id: job.state for job in jobs if job.has_ended}
    forgotten = {record.reached.job or "" for record in records} - {"", *(job.id for job in jobs)}
    with suppress(UserError):
        ends |= launcher.ends(forgotten)
    unheard = [r for r in records if r.job in forgotten - ends.keys() and r.user not in ("", user_name(os.geteuid()))]
    return Answer({job.place: job for job in unfinished(jobs)}, ends, hidden=bool(unheard) and launcher.hides_jobs())


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
    whole = replace(training, state=status.state, reason=message)
    return replace(status, training=whole, job=job, slurm_job=",".join(held) or status.slurm_job, message=message)


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
    queued = answer.queue.get(record.place) if record else None
    record = record.reached if record and not queued else record
    by_files = SlurmStatus(training, job)
    if record:
        by_files = replace(by_files, slurm_job=record.job, user=record.user, launcher=title(record.launcher))
    if training.state in ("done", "unreadable"):
        return by_files
    if record and queued:
        status = replace(by_files, slurm_job=queued.id, user=user_name(queued.uid))
        return _in_queue(status, record, queued, answer.shared.get(record.place, 1))
    end, beat = answer.ends.get((record and record.job) or ""), Heartbeat.peek(job.folder)
    if training.state == "running" and not (end and beat and record and beat.slurm_job == record.job):
        return by_files  # else SLURM ended it less than a minute ago
    failure = Failure.peek(job.folder)
    stored = _failed(by_files, failure.kind, failure.message, failure.traceback) if failure else by_files
    if record is None or (failure and _is_of(failure, record)):
        return stored
    if record.cancelled:
        return _failed(by_files, "cancelled", "by harness cancel")
    if record.job and (silence := _silence(record, end, answer)):
        return _standing(by_files, "unknown", silence)
    if (
        record.job is None
        or (end == "COMPLETED" and not _lacks(job, record))
        or (end and end not in (*ENDS, "COMPLETED"))
    ):
        return stored
    return _ended(by_files, record, end)


def title(launcher: str) -> str:
    """Return what a launcher is called in a sentence, also of one that is not here."""
    return "SLURM" if launcher == "slurm" else launcher


def _standing(status: SlurmStatus, state: State, message: str = "", **facts: Any) -> SlurmStatus:
    return replace(status, training=replace(status.training, state=state, reason=message), message=message, **facts)


def _failed(status: SlurmStatus, kind: FailureClass, message: str, output: str = "") -> SlurmStatus:
    state: State = "diverged" if kind == "diverged" else "failed"
    return _standing(status, state, message, failure=kind, output=output)


def _in_queue(status: SlurmStatus, record: Submission, queued: QueuedJob, sharing: int) -> SlurmStatus:
    """Say how a training stands whose job SLURM has. status: by its files, with the job; sharing: how many have it."""
    beat, failure = Heartbeat.peek(status.job.folder), Failure.peek(status.job.folder)
    if record.cancelled:
        words = f"cancelled, and {status.launcher} has not ended it yet"
        return _standing(status, "ending", words, failure="cancelled")
    if queued.state == "PENDING" or queued.state in HELD:
        meant = pending(queued.reason)
        state: State = "held" if meant.held or queued.state in HELD else "waiting"
        return _standing(status, state, meant.words, never=meant.never, mend=meant.mend)
    if queued.state in SUSPENDED:
        return _standing(status, "suspended", "SLURM has suspended it, and lets it go on later")
    if queued.state not in STARTING:
        kind = failure.kind if failure and _is_of(failure, record) else None
        return _standing(status, "ending", f"{status.launcher}: {queued.state}", failure=kind)
    if beat and (status.training.state == "running" or (beat.slurm_job == queued.id and _is_fresh(status.job.folder))):
        clock = _clock(beat)
        phase = "; ".join(filter(None, (beat.phase, clock)))
        running = replace(status.training, state="running", phase=phase, step=beat.step, reason="")
        return replace(status, training=running, message=clock)
    if sharing > 1:
        words = f"its job runs, which is for {sharing} trainings, and has not come to this one"
        return _standing(status, "waiting", words)
    return _standing(status, "starting", f"{status.launcher} runs its job, which has given no sign of life yet")


def _is_fresh(folder: Path) -> bool:
    """Tell whether a sign of life was written a moment ago by the clock of who keeps the files, whatever it says."""
    with suppress(OSError):
        return time.time() - (folder / Heartbeat.FILE).stat().st_mtime <= HEARTBEAT_STALE_SECONDS
    return False


def _clock(beat: Heartbeat) -> str:
    """Say that the clock of a job's node is not this machine's; "" where they agree."""
    ahead = beat.time - time.time()
    if abs(ahead) <= HEARTBEAT_STALE_SECONDS:
        return ""
    return f"the clock of {beat.host} is {seconds_in_words(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"


def _is_of(failure: Failure, record: Submission) -> bool:
    """Tell whether the job of a submission failed so: by its id, else by the clocks of two machines."""
    if failure.slurm_job and record.job:
        return failure.slurm_job == record.job
    return (failure.time or 0) >= record.time


def _silence(record: Submission, end: str | None, answer: Answer) -> str:
    """Say why nobody knows how a job stands that was sent; "" where somebody does."""
    if record.launcher in answer.silent:
        return f"it was sent, and {title(record.launcher)} does not answer"
    hidden = answer.hidden and end is None and record.user not in ("", user_name(os.geteuid()))
    return f"{record.user} sent it, and SLURM tells nobody of the jobs of others (PrivateData)" if hidden else ""


def _ended(status: SlurmStatus, record: Submission, end: str | None) -> SlurmStatus:
    """Say why a job is over that has written nothing of it, and has not made what it should."""
    job, path = status.job, _log(status.job.store, record)
    kind, output = ENDS.get(end or "", "killed"), tail(path)
    words = f"{status.launcher}: {end}" if end else "nothing tells of its end"
    reason = "; ".join(filter(None, (words, status.training.reason)))
    if end == "COMPLETED":
        reason = f"it ended without its results: harness logs {job.train_id}"
    if kind == "killed":  # only its output may tell more
        kind = next((sign for words, sign in SIGNS_IN_OUTPUT.items() if words in output), kind)
        refused = "; ".join(filter(None, (refusal(output), problem_of(job.store, record))))
        reason = "; ".join(filter(None, (reason, refused)))
        has_output = is_file(path) or record.user not in ("", user_name(os.geteuid()))  # else its folder was taken away
        if kind == "killed" and has_output and not refused and end == "FAILED" and not _began(job, record):
            kind, reason = "failed to start", f"{words} before anything of the harness began; {_last_words(path)}"
    return _failed(status, kind, reason, output)


def _log(store: Store, record: Submission) -> Path:
    with suppress(UserError):
        return launcher_named(record.launcher).log(store, record)
    return output_path(store, str(record.job), record.folder)


def _began(job: Job, record: Submission) -> bool:
    """Tell whether a job has left any sign that the harness worked in it."""
    environment, beat = Environment.peek(job.folder), Heartbeat.peek(job.folder)
    attempts = environment.attempts if environment else []
    return any(a.slurm_job_id == record.job for a in attempts) or bool(beat and beat.slurm_job == record.job)


def _last_words(path: Path) -> str:
    """Return what an output says last, or why nothing is known of it."""
    lines = [line.strip() for line in tail(path).splitlines() if line.strip()]
    if lines:
        return f"its output ends: {lines[-1]}"
    return "its output is its sender's alone" if not os.access(path.parent, os.X_OK) else f"it printed nothing ({path})"


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
    """Return the file that a training's last job writes: of several the one that has written last, or that of
    a part by its name.

    Raises:
        UserError: it was not sent, or has written nothing yet.
    """
    records = [record for record in store.submissions_of(train_id).values() if record.job]
    if not records:
        raise UserError(f"{train_id}: no job of a queue made this training; 'harness show {train_id}' tells the rest")
    if part and part not in (names := [record.part for record in records]):
        raise UserError(f"{train_id}/{part}: none of its jobs is named so; they are {', '.join(names)}")
    chosen = [record for record in records if part in ("", record.part)]
    paths = {launcher_named(record.launcher).log(store, record): record for record in chosen}
    written = [path for path in paths if path.is_file()]
    if not written:
        path, record = next(iter(paths.items()))
        raise UserError(f"{train_id}: its job {record.job} has written nothing yet ({path})")
    return max(written, key=lambda path: path.stat().st_mtime)
