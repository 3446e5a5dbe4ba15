"""Sending jobs to a launcher, each once: what is sent is recorded (`Submission`) before it is sent.

scratch/<study>/slurm/   their sender's alone, for it is what they execute: the code (`snapshot`), and of each array
                         its tasks <name>.json, and SLURM's sbatch file <name>.sh with their hash; what its jobs print.
                         All of it is there before the launcher is asked: who is interrupted after that has jobs that
                         run, which the next submission finds by their name.
scratch/<study>/submit.lock   one submission at a time, whoever sends
"""

import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config.spec import eval_id
from harness.errors import UserError
from harness.files import locked
from harness.jobs.job import Job
from harness.launchers.arrays import Array, count_jobs, cut, fitting, folders_of
from harness.launchers.bootstrap import user_name
from harness.launchers.launcher import QueuedJob, Queueing, unfinished
from harness.launchers.private import own_folder, private_folder, problem
from harness.launchers.sent_before import (
    PATIENCE,
    Place,
    Queue,
    ask_queue,
    check_others,
    end_cancelled,
    hidden,
    ids_of_first_phases,
    record_ids,
    records_of,
)
from harness.launchers.snapshot import Snapshot, snapshot
from harness.store.records import Submission

AWAY = re.compile(r"SLURM does not answer|Unable to contact slurm|Socket timed out")  # what a refusal says then
# The limit that a refusal names beside "job submit limit, user's size and/or time limits" (slurm_errno.c).
LIMIT = re.compile(r"\b(Assoc|QOS)[A-Z]\w+")
PAUSES = (2.0, 60.0)  # seconds between two times that room is looked for: after some was found, and at most


@dataclass
class Sent:
    """What a submission came to: the jobs that it sent and SLURM's ids of them, and the trainings that it did not send.

    queued: SLURM has them already; with_less: some of these, with fewer measurements; later: the queue has no room;
    hidden: another sent them, and nobody else is told how their jobs stand.
    """

    jobs: list[Job] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    queued: list[Job] = field(default_factory=list)
    with_less: list[Job] = field(default_factory=list)
    later: list[Job] = field(default_factory=list)
    hidden: list[Job] = field(default_factory=list)

    @property
    def arrays(self) -> list[str]:
        """SLURM's ids of the arrays."""
        return list(dict.fromkeys(id.partition("_")[0] for id in self.ids))

    @property
    def trainings(self) -> int:
        """How many trainings have jobs among those that were sent."""
        return len({job.train_id for job in self.jobs})


def measurement_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return what of the jobs needs no training, its weights being kept, as cheap jobs of one process each."""
    measuring = []
    for job in jobs:
        if ready := job.ready():
            measuring.append(replace(job, evaluations=ready, resources=job.alone))
    return measuring


class Refused(UserError):
    """A launcher refused an array, for a cause; sent: what came before it."""

    def __init__(self, words: str, sent: Sent, cause: UserError) -> None:
        super().__init__(words)
        self.sent, self.cause = sent, cause


def is_full(error: UserError) -> bool:
    """Tell whether something was refused because the queue has no room for it now."""
    limit = LIMIT.search(str(error))
    return "Submit" in limit[0] if limit else "job submit limit" in str(error)


def is_waited_for(error: UserError) -> bool:
    """Tell whether what was refused may be taken later."""
    return is_full(error) or AWAY.search(str(error)) is not None


@dataclass(frozen=True)
class Prepared:
    """What a submission would send, and what of the jobs it would not; ids: of the parts that SLURM has already."""

    sent: Sent
    code: Snapshot
    arrays: list[Array]
    ids: dict[Place, str]


def prepare(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path], queue: Queue, limit: int) -> Prepared:
    """Cut what SLURM does not hold yet into arrays of equal resources, none larger than `limit`.

    Raises:
        UserError: the launcher cannot give what a job asks, or the folder of jobs is not the user's own.
    """
    folder, code, folders = own_folder(jobs[0].store), snapshot(grids), tuple(folders_of(jobs[0].store, jobs))
    if wrong := problem(folder):
        raise UserError(wrong)
    sent, todo, ids = _compare(jobs, queue.jobs)
    if queue.most is not None:
        todo, sent.later = fitting(todo, queue.most, queue.room)
    arrays = cut([part for parts in todo for part in parts], launcher, code, folders, limit)
    return Prepared(sent, code, arrays, ids)


def texts(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path]) -> tuple[list[str], str]:
    """Return what `submit` would send now, such as SLURM's sbatch files, and nothing is written; and a note.

    The note tells that the launcher does not answer: then they are those for an empty queue. "" where it does.

    Raises:
        UserError: as `prepare`.
    """
    try:
        queue, limit, note = ask_queue(jobs, launcher, patience=0), launcher.most(), ""
    except UserError as error:
        most, limit = launcher.when_silent()
        queue = Queue([], most, most or 0)
        note = f"as for an empty queue, for {launcher.title} was not asked: {error}"
    return [array.text for array in prepare(jobs, launcher, grids, queue, limit).arrays], note


def submit(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path], most: int | None = None) -> Sent:
    """Send to a launcher the jobs of one study that it does not hold already; `grids`: the folders of their grid files.

    most: how many jobs are sent this time; None for as many as the launcher takes.

    Raises:
        UserError: as `prepare`; it does not answer, or refused an array: those before it are sent, recorded and told;
            or another launcher has some of the jobs.
    """
    folder = own_folder(jobs[0].store)
    # A second terminal waits, then finds the first's jobs; also a colleague's.
    with private_folder(folder) as here, locked(folder.with_name("submit.lock")):
        check_others(jobs, launcher)
        end_cancelled(records_of(jobs), launcher)
        queue, of_others = ask_queue(jobs, launcher), hidden(jobs, launcher)
        if not (open_jobs := [job for job in jobs if not of_others & {job.train_id, job.first_phase_id}]):
            return Sent(hidden=list(jobs))
        prepared = prepare(open_jobs, launcher, grids, queue.limited(most), launcher.most())
        prepared.sent.hidden = [job for job in jobs if job not in open_jobs]
        sent, arrays, ids = prepared.sent, prepared.arrays, ids_of_first_phases(jobs, launcher) | prepared.ids
        record_ids(jobs, queue.jobs)
        prepared.code.write(here, folder)
        for number, array in enumerate(arrays, 1):
            try:
                new = _send(array, here, launcher, array.needs(ids))
            except UserError as error:
                left = sum(len(array.jobs) for array in arrays) - len(sent.ids)
                what = "trainings" if all(array.jobs[0].part.kind == "whole" for array in arrays) else "jobs"
                when = "there is room, as --watch does" if is_full(error) else "that is mended"
                raise Refused(
                    f"submit: {launcher.title} refused array {number} of {len(arrays)}: {error}. Sent and recorded: "
                    f"{len(sent.ids)} {what} (job {', '.join(sent.arrays) or 'none'}); not sent: {left}; the "
                    f"same command sends them when {when}",
                    sent,
                    error,
                ) from None
            sent.jobs, sent.ids = sent.jobs + array.jobs, sent.ids + new
            ids |= {(job.train_id, job.part.name): id for job, id in zip(array.jobs, new, strict=True)}
    return sent


def submit_all(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path], hear: Callable[[Sent], None]) -> None:
    """Send jobs as `submit` does, each once, those that the queue has no room for when it has; until all are sent.

    hear: is told what each time came to.

    Raises:
        UserError: as `submit`; a controller that is away, and a limit that SLURM enforces, are waited for.
    """
    began, left, pause, told, most = time.time(), list(jobs), PAUSES[0], "", None
    while left:
        sent, refusal = _attempt(left, launcher, grids, most)
        most, tried = _next(left, most, refusal), most
        news = str(refusal or ("" if sent.ids else "the queue has no room"))
        if refusal and news != told:
            print(f"{launcher.title} takes no more now, and is asked again: {news}", file=sys.stderr, flush=True)
        if sent.ids or (news != told and not refusal):
            hear(sent)
        told, queued = news, {job.train_id for job in (*sent.queued, *sent.hidden)}
        before, left = len(left), [job for job in left if job.train_id not in queued and _is_unsent(job, began)]
        pause = PAUSES[0] if len(left) < before or most != tried else min(2 * pause, PAUSES[1])
        if left:
            time.sleep(pause)


def _next(left: Sequence[Job], most: int | None, refusal: UserError | None) -> int | None:
    """Return how many jobs to send at most the next time: half as many where an array was larger than there is room."""
    if refusal is None or not is_full(refusal):
        return most and 2 * most
    tried = most or count_jobs(part for job in left for part in job.parts())
    return max(tried // 2, *(count_jobs(job.parts()) for job in left))


def _attempt(
    jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path], most: int | None
) -> tuple[Sent, UserError | None]:
    """Send what is taken now; return it, and why the rest was refused where that may be taken later.

    Raises:
        UserError: as `submit_all`.
    """
    try:
        return submit(jobs, launcher, grids, most), None
    except UserError as error:
        if not is_waited_for(error):
            raise
        return (error.sent, error.cause) if isinstance(error, Refused) else (Sent(), error)


def _is_unsent(job: Job, since: float) -> bool:
    return bool(job.missing()) and not any(record.time >= since for record in records_of([job]))


def _compare(jobs: Sequence[Job], queue: Collection[QueuedJob]) -> tuple[Sent, list[list[Job]], dict[Place, str]]:
    """Tell the trainings that SLURM has from those of which parts are to be sent; note those that it has with less to
    measure. Return also the ids of parts that it has."""
    sent, todo, ids, queued_as = Sent(), [], dict[Place, str](), {job.place: job.id for job in queue}
    for job in jobs:
        queued = {s.part: s for s in job.store.submissions_of(job.train_id).values() if s.place in queued_as}
        ids |= {(job.train_id, name): queued_as[submission.place] for name, submission in queued.items()}
        divided_otherwise = bool(queued.keys() - {part.name for part in job.division() or [job.part]})
        parts = [] if divided_otherwise else [part for part in job.parts() if part.part.name not in queued]
        if not job.missing():  # it ended since somebody looked, and before SLURM was asked
            continue
        if parts:
            todo.append(parts)
            continue
        sent.queued.append(job)
        if not all(job.missing_ids() <= set(submission.evaluations) for submission in queued.values()):
            sent.with_less.append(job)
    return sent, todo, ids


def _send(array: Array, here: Path, launcher: Queueing, needs: Sequence[str]) -> list[str]:
    """Record an array's jobs under its name, send it, and record the ids that the launcher gave them.

    here: the folder of jobs, by its handle. needs: ids of what must end well before they begin;
    where one does not, SLURM ends them.
    Where it is refused, the records are restored, and the array is ended where it was taken all the same: that
    happens when the controller's answer is lost on the way, and such jobs would do what nobody knows of.
    """
    jobs, parcel = array.jobs, array.parcel
    before, now = [Submission.read(job.submission_folder) for job in jobs], time.time()
    sender = {"user": user_name(os.geteuid()), "folder": parcel.folder.name, "time": now, "launcher": launcher.name}
    submissions = []
    for index, job, earlier in zip(array.elements, jobs, before, strict=True):
        evaluations = tuple(eval_id(job.train_id, evaluation) for evaluation in job.evaluations)
        work = {"evaluations": evaluations, "part": job.part.name}
        known = {"cancelled_before": _cancelled(earlier), "earlier": earlier.reached.job if earlier else None}
        submissions.append(Submission(token=parcel.name, index=index, **work, **sender, **known))
    _record(jobs, submissions)
    try:
        id = launcher.send(parcel, here, needs)
    except UserError:
        taken = unfinished(launcher.ask([parcel.name], PATIENCE))
        launcher.cancel({job.id.partition("_")[0] for job in taken})
        _record(jobs, before)
        raise
    ids = [id if index is None else f"{id}_{index}" for index in array.elements]
    _record(jobs, [s.model_copy(update={"job": id}) for s, id in zip(submissions, ids, strict=True)])
    return ids


def _cancelled(earlier: Submission | None) -> tuple[str, ...]:
    """Return the ids of jobs that were cancelled, as the next record must know them: SLURM may start one again."""
    if earlier is None:
        return ()
    last = [earlier.job] if earlier.cancelled and earlier.job else []
    return tuple(dict.fromkeys((*earlier.cancelled_before, *last)))


def _record(jobs: Sequence[Job], submissions: Sequence[Submission | None]) -> None:
    """Write each job's submission, or remove its record."""
    for job, submission in zip(jobs, submissions, strict=True):
        if submission:
            submission.write(job.submission_folder)
        else:
            (job.submission_folder / Submission.FILE).unlink(missing_ok=True)


class QueueLauncher(Queueing):
    """A launcher with a queue: `send` starts a parcel, `ask` tells of it, `cancel` ends it; the rest is done here."""

    def send_once(self, jobs: Sequence[Job], grids: Collection[Path], hear: Callable[..., None], wait: bool) -> None:
        """Send jobs as `submit` does, or `submit_all` where it is to wait. hear: is told what was `Sent`."""
        if wait:
            submit_all(jobs, self, grids, hear)
        else:
            hear(submit(jobs, self, grids))
