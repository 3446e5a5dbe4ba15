"""What of some jobs was sent before: what is recorded of it, and what launchers' queues hold, whoever sent it."""

import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from harness.errors import UserError
from harness.jobs.job import Job
from harness.launchers.bootstrap import user_name
from harness.launchers.launcher import QueuedJob, Queueing, launcher_named, unfinished
from harness.store.records import Failure, Submission

PATIENCE = 60.0  # seconds for which a launcher that is started again may be away
MARGIN = 30.0  # seconds over SLURM's KillWait in which an epilogue may end
Place = tuple[str, str]  # a training, and the name of a part of its work


@dataclass(frozen=True)
class Queue:
    """What SLURM has of a study's jobs, whoever sent them.

    most, room: how many it may hold at all, and still takes; None where there is no limit.
    """

    jobs: Collection[QueuedJob]
    most: int | None = None
    room: int = 0

    def limited(self, most: int | None) -> "Queue":
        """Return it with room for no more than so many jobs; None: as it is."""
        if most is None:
            return self
        return replace(self, most=self.most or sys.maxsize, room=most if self.most is None else min(self.room, most))


def records_of(jobs: Iterable[Job]) -> list[Submission]:
    """Return the last submissions of jobs and of the parts of their trainings."""
    return [record for job in jobs for record in job.store.submissions_of(job.train_id).values()]


def by_launcher(records: Iterable[Submission]) -> dict[str, list[Submission]]:
    """Return submissions by whose they are."""
    groups: dict[str, list[Submission]] = {}
    for record in records:
        groups.setdefault(record.launcher, []).append(record)
    return groups


def ask_queue(jobs: Sequence[Job], launcher: Queueing, patience: float = PATIENCE) -> Queue:
    """Ask a launcher what it has of some jobs, whoever sent them, and how many it still takes where that is limited.

    Raises:
        UserError: it does not answer.
    """
    names = {record.token for record in records_of(jobs)}
    queued, limits = unfinished(launcher.ask(names, patience)), launcher.limits(jobs, patience)
    return Queue(queued, *map(min, zip(*limits, strict=True)))


def ids_of_first_phases(jobs: Iterable[Job], launcher: Queueing) -> dict[Place, str]:
    """Return the ids of what a launcher has of the first phases of jobs, which may themselves be none of these.

    Raises:
        UserError: it does not answer.
    """
    records: dict[Place, Submission] = {}
    for job in (job for job in jobs if job.first_phase_id):
        of_first = job.store.submissions_of(str(job.first_phase_id)).values()
        records |= {(str(job.first_phase_id), record.part): record for record in of_first}
    names = {record.token for record in records.values()}
    queued = {job.place: job.id for job in unfinished(launcher.ask(names, PATIENCE))} if names else {}
    return {place: queued[record.place] for place, record in records.items() if record.place in queued}


def end_cancelled(records: Iterable[Submission], launcher: Queueing, patience: float = PATIENCE) -> None:
    """Wait until jobs that were cancelled, or are ending by themselves, are over; SLURM takes its KillWait for that.

    Own ones are ended again, for who cancelled them may have been interrupted before the launcher was told. A job that
    has not ended when the time is up is left, and is still in the queue then.

    Raises:
        UserError: SLURM does not answer.
    """
    cancelled = {record.place for record in records if record.cancelled}
    names, deadline, told = {record.token for record in records}, None, False
    while ending := _ending(launcher.ask(names, patience), cancelled):
        if deadline is None:
            launcher.cancel({job.id for job in ending if job.place in cancelled and job.is_mine})
            deadline = time.monotonic() + launcher.seconds_to_end() + MARGIN
        elif time.monotonic() > deadline:
            return
        elif not told:
            told = True
            print(f"{len(ending)} of its earlier jobs are ending; they are waited for", file=sys.stderr, flush=True)
        time.sleep(1)


def _ending(jobs: Iterable[QueuedJob], cancelled: Collection[tuple[str, int | None]]) -> list[QueuedJob]:
    return [job for job in unfinished(jobs) if not job.is_at_large or job.place in cancelled]


def check_others(jobs: Sequence[Job], launcher: Queueing) -> None:
    """Refuse jobs that another launcher has, whose end would not be waited for.

    Raises:
        UserError: which; or the other does not answer.
    """
    for name, records in by_launcher(records_of(jobs)).items():
        if name != launcher.name and (left := unfinished(launcher_named(name).ask({r.token for r in records}))):
            raise UserError(f"submit: {len(left)} of these jobs are with the launcher '{name}'; wait, or cancel them")


def hidden(jobs: Sequence[Job], launcher: Queueing) -> set[str]:
    """Return the trainings that others sent to a launcher which tells nobody of their jobs, and that may still run.

    A record whose sender was interrupted before it was sent, or that tells of a cancelled job or one that has failed
    since, holds nothing back.
    """
    me, of_others = user_name(os.geteuid()), dict[str, str]()
    for job in jobs:
        failure = Failure.peek(job.folder)
        for record in job.store.submissions_of(job.train_id).values():
            over = record.cancelled or (failure and failure.slurm_job == record.job)
            if record.job and record.user not in ("", me) and not over:
                of_others[record.job] = job.train_id
    if not of_others or not launcher.hides_jobs():
        return set()
    told = {job.id for job in launcher.ask({record.token for record in records_of(jobs)})}
    told |= launcher.ends(of_others.keys() - told).keys()
    return {train_id for id, train_id in of_others.items() if id not in told}


def note_ids(jobs: Sequence[Job], launcher: Queueing) -> None:
    """Write down the ids of queued jobs whose sender was interrupted, where there are such records.

    Raises:
        UserError: the launcher does not answer.
    """
    if names := {record.token for record in records_of(jobs) if record.job is None}:
        record_ids(jobs, unfinished(launcher.ask(names)))


def record_ids(jobs: Sequence[Job], queue: Collection[QueuedJob]) -> None:
    """Write down SLURM's ids of queued jobs where nobody lived to do so."""
    ids = {job.place: job.id for job in queue}
    for job in jobs:
        for folder, submission in job.store.submissions_of(job.train_id).items():
            if submission.job is None and submission.place in ids:
                submission.model_copy(update={"job": ids[submission.place]}).write(folder)
