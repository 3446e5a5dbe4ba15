"""Sending jobs to a launcher, each once: what is sent is recorded (`Submission`) before it is sent.

scratch/<study>/slurm/   their sender's alone, for it is what they execute: the code (`snapshot`), and of each array
                         its tasks <name>.json, and SLURM's sbatch file <name>.sh with their hash; what its jobs print.
                         All of it is there before the launcher is asked: who is interrupted after that has jobs that
                         run, which the next submission finds by their name.
scratch/<study>/submit.lock   one submission at a time, whoever sends
"""

import hashlib
import itertools
import json
import math
import os
import re
import shlex
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.config.spec import eval_id
from harness.errors import UserError
from harness.files import locked
from harness.jobs.job import Job, jobs_to_json
from harness.launchers.bootstrap import Untrusted, check_own, user_name
from harness.launchers.launcher import Parcel, QueuedJob, Queueing, launcher_named, unfinished
from harness.launchers.private import own_folder, private_folder, problem, write_private
from harness.launchers.snapshot import Snapshot, as_sent, snapshot
from harness.store.records import Failure, Submission, SubmitOptions
from harness.store.store import Store

PATIENCE = 60.0  # seconds for which a launcher that is started again may be away
MARGIN = 30.0  # seconds over SLURM's KillWait in which an epilogue may end
# What a refusal says where there will be room later (slurm_errno.c), or SLURM is away.
WAITED_FOR = re.compile(r"SLURM does not answer|job submit limit|MaxSubmit|Unable to contact slurm|Socket timed out")
PAUSES = (2.0, 60.0)  # seconds between two times that room is looked for: after some was found, and at most
Place = tuple[str, str]  # a training, and the name of a part of its work


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


@dataclass(frozen=True)
class Array:
    """Jobs of equal resources that are sent together."""

    jobs: list[Job]
    parcel: Parcel
    text: str

    @property
    def elements(self) -> list[int | None]:
        """For each job which element of the array makes it: those that share a GPU are one; None where there is one."""
        packed = self.jobs[0].resources.packed
        return [index // packed if len(self.jobs) > packed else None for index in range(len(self.jobs))]

    def needs(self, ids: Mapping[Place, str]) -> list[str]:
        """Return which of some jobs must end well before these begin: the earlier parts of their training, and the
        training of a first phase."""
        first = self.jobs[0]
        earlier = [p.name for p in first.division() if p.stage < first.part.stage] if first.part.stage else []
        places = [(first.train_id, name) for name in earlier]
        if first.first_phase_id and not first.part.stage:
            places += [(first.first_phase_id, name) for name in ("whole", "train")]
        return [ids[place] for place in places if place in ids]


def measurement_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return what of the jobs needs no training, its weights being kept, as cheap jobs of one process each."""
    measuring = []
    for job in jobs:
        if ready := job.ready():
            measuring.append(replace(job, evaluations=ready, resources=job.alone))
    return measuring


@dataclass(frozen=True)
class Queue:
    """What SLURM has of a study's jobs, whoever sent them.

    most, room: how many it may hold at all, and still takes; None where there is no limit.
    """

    jobs: Collection[QueuedJob]
    most: int | None = None
    room: int = 0


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
        todo, sent.later = _fitting(todo, queue.most, queue.room)
    arrays = []
    for alike in _alike([part for parts in todo for part in parts]):
        resources = alike[0].resources
        most = limit * resources.packed
        for part in (alike[first : first + most] for first in range(0, len(alike), most)):
            tasks, count = jobs_to_json(list(map(as_sent, part))), math.ceil(len(part) / resources.packed)
            parcel = Parcel(_name(part, tasks), tasks, count, resources, folder, code, folders)
            arrays.append(Array(part, parcel, launcher.text(parcel)))
    return Prepared(sent, code, arrays, ids)


def _alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return the jobs of equal resources that wait for the same jobs: trainings together, the shards of each, what
    measures each, and the same of second phases."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (job.first_phase_id is not None, min(job.part.stage, 1))):
        waits = (job.train_id, job.part.stage) if job.part.stage else (job.first_phase_id,)
        groups.setdefault((waits, job.resources), []).append(job)
    return list(groups.values())


def _count(jobs: Iterable[Job]) -> int:
    """Return how many jobs of SLURM's these are: those that are packed together are one."""
    return sum(math.ceil(len(alike) / alike[0].resources.packed) for alike in _alike(jobs))


def _fitting(todo: list[list[Job]], most: int, room: int) -> tuple[list[list[Job]], list[Job]]:
    """Return the trainings, each with its parts, that the room in a queue is enough for, and the others.

    most: the room in one that is empty.

    Raises:
        UserError: one training alone has too many parts.
    """
    if large := next((parts for parts in todo if _count(parts) > most), None):
        raise UserError(
            f"resources.sample_shards: a training is {_count(large)} jobs, and the queue may hold {most} of them (the "
            "profile's max_submitted or study_throttle, or SLURM's limit); ask for fewer shards"
        )
    count = bisect_right(range(1, len(todo) + 1), room, key=lambda count: _count(itertools.chain(*todo[:count])))
    return todo[:count], [parts[0] for parts in todo[count:]]


def _name(jobs: Sequence[Job], tasks: bytes) -> str:
    """Name an array after its tasks and what was sent for them before, so that none has the name of an earlier one."""
    digest = hashlib.sha256(tasks)
    for job in jobs:
        before = Submission.read(job.submission_folder)
        digest.update(f"\n{before.token} {before.time}".encode() if before else b"\n")
    return f"{jobs[0].store.study}-{digest.hexdigest()[:12]}"


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


def folders_of(store: Store, jobs: Sequence[Job]) -> list[Path]:
    """Return the folders that jobs of a study, and their plug-ins, read and write; data and weights where there are."""
    named = {folder for job in jobs for folder in (job.data, job.weights, *(file.parent for file in job.plugins))}
    optional = sorted(folder for folder in named if folder.is_dir())
    return [store.results.absolute(), store.scratch.absolute(), *optional]


def records_of(jobs: Iterable[Job]) -> list[Submission]:
    """Return the last submissions of jobs and of the parts of their trainings."""
    return [record for job in jobs for record in job.store.submissions_of(job.train_id).values()]


def ask_queue(jobs: Sequence[Job], launcher: Queueing, patience: float = PATIENCE) -> "Queue":
    """Ask a launcher what it has of some jobs, whoever sent them, and how many it still takes where that is limited.

    Raises:
        UserError: it does not answer.
    """
    names = {record.token for record in records_of(jobs)}
    queued, limits = unfinished(launcher.ask(names, patience)), launcher.limits(jobs[0].store, patience)
    return Queue(queued, *map(min, zip(*limits, strict=True)))


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


def submit(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path]) -> Sent:
    """Send to a launcher the jobs of one study that it does not hold already; `grids`: the folders of their grid files.

    Raises:
        UserError: as `prepare`; it does not answer, or refused an array: those before it are sent, recorded and told;
            or another launcher has some of the jobs.
    """
    folder = own_folder(jobs[0].store)
    # A second terminal waits, then finds the first's jobs; also a colleague's.
    with private_folder(folder) as here, locked(folder.with_name("submit.lock")):
        _check_others(jobs, launcher)
        end_cancelled(records_of(jobs), launcher)
        queue, hidden = ask_queue(jobs, launcher), _hidden(jobs, launcher)
        if not (open_jobs := [job for job in jobs if not hidden & {job.train_id, job.first_phase_id}]):
            return Sent(hidden=list(jobs))
        prepared = prepare(open_jobs, launcher, grids, queue, launcher.most())
        prepared.sent.hidden = [job for job in jobs if job not in open_jobs]
        sent, arrays, ids = prepared.sent, prepared.arrays, _of_first_phases(jobs, launcher) | prepared.ids
        _record_ids(jobs, queue.jobs)
        prepared.code.write(here, folder)
        for number, array in enumerate(arrays, 1):
            try:
                new = _send(array, here, launcher, array.needs(ids))
            except UserError as error:
                left = sum(len(array.jobs) for array in arrays) - len(sent.ids)
                what = "trainings" if all(array.jobs[0].part.kind == "whole" for array in arrays) else "jobs"
                raise UserError(
                    f"submit: {launcher.title} refused array {number} of {len(arrays)}: {error}. Sent and recorded: "
                    f"{len(sent.ids)} {what} (job {', '.join(sent.arrays) or 'none'}); not sent: {left}, which the "
                    "same command sends"
                ) from None
            sent.jobs, sent.ids = sent.jobs + array.jobs, sent.ids + new
            ids |= {(job.train_id, job.part.name): id for job, id in zip(array.jobs, new, strict=True)}
    return sent


def _of_first_phases(jobs: Iterable[Job], launcher: Queueing) -> dict[Place, str]:
    """Return the ids of what a launcher has of the first phases of jobs, which may themselves be none of these."""
    records: dict[Place, Submission] = {}
    for job in (job for job in jobs if job.first_phase_id):
        of_first = job.store.submissions_of(str(job.first_phase_id)).values()
        records |= {(str(job.first_phase_id), record.part): record for record in of_first}
    names = {record.token for record in records.values()}
    queued = {job.place: job.id for job in unfinished(launcher.ask(names, PATIENCE))} if names else {}
    return {place: queued[record.place] for place, record in records.items() if record.place in queued}


def _check_others(jobs: Sequence[Job], launcher: Queueing) -> None:
    """Refuse jobs that another launcher has, whose end would not be waited for.

    Raises:
        UserError: which; or the other does not answer.
    """
    for name, records in by_launcher(records_of(jobs)).items():
        if name != launcher.name and (left := unfinished(launcher_named(name).ask({r.token for r in records}))):
            raise UserError(f"submit: {len(left)} of these jobs are with the launcher '{name}'; wait, or cancel them")


def _hidden(jobs: Sequence[Job], launcher: Queueing) -> set[str]:
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


def by_launcher(records: Iterable[Submission]) -> dict[str, list[Submission]]:
    """Return submissions by whose they are."""
    groups: dict[str, list[Submission]] = {}
    for record in records:
        groups.setdefault(record.launcher, []).append(record)
    return groups


def submit_all(jobs: Sequence[Job], launcher: Queueing, grids: Collection[Path], hear: Callable[[Sent], None]) -> None:
    """Send jobs as `submit` does, each once, those that the queue has no room for when it has; until all are sent.

    hear: is told what each time came to.

    Raises:
        UserError: as `submit`; a controller that is away, and a limit that SLURM enforces, are waited for.
    """
    began, left, pause = time.time(), list(jobs), PAUSES[0]
    while left:
        sent = Sent()
        try:
            sent = submit(left, launcher, grids)
            hear(sent)
        except UserError as error:
            if not WAITED_FOR.search(str(error)):
                raise
        queued = {job.train_id for job in (*sent.queued, *sent.hidden)}
        before, left = len(left), [job for job in left if job.train_id not in queued and _is_unsent(job, began)]
        pause = PAUSES[0] if len(left) < before else min(2 * pause, PAUSES[1])
        if left:
            time.sleep(pause)


def _is_unsent(job: Job, since: float) -> bool:
    return bool(job.missing()) and not any(record.time >= since for record in records_of([job]))


def remember(options: SubmitOptions, store: Store) -> None:
    """Write what a retry takes over from this submission.

    Raises:
        UserError: as `private_folder`.
    """
    with private_folder(own_folder(store)) as here:
        write_private(here / options.FILE, json.dumps(options.content).encode())


def remembered(store: Store) -> SubmitOptions:
    """Return what this user's last submission left for a retry.

    Raises:
        UserError: others could have written it: a profile has commands, and theirs are not taken.
    """
    path = own_folder(store) / SubmitOptions.FILE
    if wrong := problem(path.parent):
        raise UserError(wrong)
    try:
        check_own(path)
    except Untrusted as error:
        rest = "a retry takes no profile from it; say --profile and --data after: rm"
        raise UserError(f"{error}; {rest} {shlex.quote(str(path))}") from None
    except OSError:  # it is missing
        return SubmitOptions()
    return SubmitOptions.read(path.parent) or SubmitOptions()


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


def note_ids(jobs: Sequence[Job], launcher: Queueing) -> None:
    """Write down the ids of queued jobs whose sender was interrupted, where there are such records.

    Raises:
        UserError: the launcher does not answer.
    """
    if names := {record.token for record in records_of(jobs) if record.job is None}:
        _record_ids(jobs, unfinished(launcher.ask(names)))


def _record_ids(jobs: Sequence[Job], queue: Collection[QueuedJob]) -> None:
    """Write down SLURM's ids of queued jobs where nobody lived to do so."""
    ids = {job.place: job.id for job in queue}
    for job in jobs:
        for folder, submission in job.store.submissions_of(job.train_id).items():
            if submission.job is None and submission.place in ids:
                submission.model_copy(update={"job": ids[submission.place]}).write(folder)


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
