"""A job as SLURM runs it: not once it is cancelled, and queued again as long as it gains something.

Trainings that share a job of SLURM's, at once or one after the other, have processes of their own, which hear SLURM's
signals as well.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any

from pydantic import BaseModel, Field
from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission, JobPaths, UncompletedJobError

from harness.config.cluster_profile import NOTIFY, STAGE_DATA, minutes
from harness.config.site_options import Notify
from harness.errors import UserError
from harness.files import share_with_group
from harness.jobs.job import Job, jobs_from_json
from harness.jobs.local_pool import run_in_workers
from harness.jobs.notification import tell_failures
from harness.jobs.preemption import PreemptionHandler
from harness.jobs.recording import slurm_job_id
from harness.jobs.staging import staged
from harness.launchers.bootstrap import Untrusted, check_own
from harness.launchers.private import write_private
from harness.launchers.snapshot import as_received
from harness.slurm.client import own_jobs
from harness.slurm.sbatch_script import REQUEUE
from harness.store.records import Submission, measurement_paths
from harness.store.status import RunStatus

SHARE = 0.5  # of its hours
ATTEMPTS = 100  # how often a job may reach its time limit and go on in the queue


@dataclass(frozen=True)
class SlurmTask:
    """One job of SLURM's: one of ours, or several at once.

    reached: what the training's folders held when SLURM was last asked to queue it again; None where that has not been.
    began: when this process made it of its file, by the clock of `time.monotonic`.
    """

    jobs: tuple[Job, ...]
    reached: frozenset[str] | None = None
    began: float = field(default_factory=time.monotonic, compare=False)

    def __call__(self) -> RunStatus:
        """Do the job, in all processes that share it, or the jobs; of several the outcome of one that is not done."""
        return self._together() if len(self.jobs) > 1 else self.jobs[0](self.cancelled)

    def _together(self) -> RunStatus:
        from harness.engine.distributed import ALONE

        outcomes = {}

        def hear(job: Job, outcome: RunStatus | None) -> None:
            if outcome:
                outcomes[job.train_id] = outcome
                print(f"{job.train_id} {outcome.state}: {outcome.words}", flush=True)

        if self.cancelled():
            return RunStatus("skipped", "cancelled")
        # A signal comes to all processes of the job: the workers stop at a checkpoint, and then it is handed on here.
        with PreemptionHandler(ALONE):
            run_in_workers(self.jobs, self.jobs[0].resources.at_once, hear)
        return next((outcome for outcome in outcomes.values() if outcome.state != "done"), RunStatus("done"))

    def checkpoint(self, *_: Any) -> Any:
        """Tell submitit what to queue again after a preemption or a time limit: the same task, unless cancelled.

        Raises:
            UncompletedJobError: it gained nothing and had half of its hours to do so: the next would gain as little. A
                failure of the class "time limit".
        """
        with suppress(UserError):
            own_jobs()  # waits for a controller that is away, which submitit asks only once
        if self.cancelled():
            return None
        reached, seconds = frozenset().union(*map(artefacts, self.jobs)), time.monotonic() - self.began
        # One that was ended sooner was preempted, which says nothing of what the next will have; nor does the first.
        if self.reached == reached and seconds > 3600 * self.jobs[0].resources.hours * SHARE:
            raise UncompletedJobError("nothing was gained since the job was last queued again, so it is not once more")
        return RequeuedTask(replace(self, reached=reached))

    def cancelled(self) -> bool:
        """Tell whether `harness cancel` has ended the job of SLURM's that this is, and not one before or after it."""
        submissions = [Submission.read(job.submission_folder) for job in self.jobs]
        return any(submission is not None and submission.cancels(*this_job()) for submission in submissions)


class TaskPaths(JobPaths):
    """submitit's names of a job's files, with one of our own for what it leaves to itself when it is queued again."""

    @property
    def submitted_pickle(self) -> Path:
        """The file that submitit's handler of signals has written; no pickle."""
        return Path(self._format_id(self.folder / "%j_requeued.json"))


class Requeued(BaseModel):
    """What a job that is queued again is to know: `SlurmTask.reached`, and how often it may be again."""

    reached: frozenset[str] | None = None
    left: int = Field(ATTEMPTS, ge=-1, le=ATTEMPTS)

    @classmethod
    def of(cls, path: Path) -> "Requeued":
        """Read it; as for the first time where it is missing, damaged, or may be another's."""
        with suppress(OSError, ValueError, Untrusted):
            check_own(path)
            return cls.model_validate_json(path.read_bytes())
        return cls()


class RequeuedTask(DelayedSubmission):
    """What submitit's handler of signals calls, and stores when it queues the job again."""

    def __init__(self, task: SlurmTask) -> None:
        super().__init__(task)
        self.task = task

    def dump(self, filepath: str | Path) -> None:
        """Write what the next attempt is to know."""
        known = Requeued(reached=self.task.reached, left=self._timeout_countdown)
        write_private(Path(filepath), known.model_dump_json().encode())


def this_job() -> tuple[str, str]:
    """Return the name and the id, as in the queue, of the job that this process is part of."""
    return os.environ.get("SLURM_JOB_NAME", ""), slurm_job_id() or ""


def start(content: bytes, here: Path) -> None:
    """Do this job's task of those that were sent; here: the folder of the study's jobs."""
    os.environ["SUBMITIT_FOLDER"] = str(here)
    environment, began = JobEnvironment(), time.time()
    everybody, element = list(map(as_received, jobs_from_json(content))), int(environment.array_task_id or 0)
    packed, store = everybody[0].resources.packed, everybody[0].store
    share_with_group(store.results, store.scratch)
    place = os.environ.get(STAGE_DATA)
    jobs = tuple(_staged(job, place) for job in everybody[element * packed : (element + 1) * packed])
    paths = TaskPaths(here, environment.job_id, environment.global_rank)
    before = Requeued.of(paths.submitted_pickle)
    attempt = RequeuedTask(SlurmTask(jobs, before.reached))
    attempt.set_timeout(minutes(jobs[0].resources), before.left)
    if which("scontrol") is None:  # as in a container: the shell around it is asked
        environment._requeue = partial(_ask_outside, here)  # type: ignore[method-assign]
    environment._handle_signals(paths, attempt)
    outcome = attempt.result()
    if environment.global_rank == 0:
        tell_failures(_notify(), jobs, began)
    if jobs[0].part.kind != "whole" and not outcome.lets_go_on:  # SLURM does not let go on what needs it
        sys.exit(f"{outcome.state}: {outcome.words}")
    print(outcome, "Job completed successfully", sep="\n", flush=True)


def _notify() -> Notify | None:
    settings = os.environ.get(NOTIFY)
    return Notify.model_validate_json(settings) if settings else None


def _staged(job: Job, place: str | None) -> Job:
    """Return a job that reads from a copy on this node; where there can be none, the job as it is, and say so."""
    try:
        return staged(job, place)
    except UserError as error:
        print(f"{error}; the data set is read from {job.data}", file=sys.stderr, flush=True)
        return job


def _ask_outside(here: Path, left: int) -> None:
    """Ask the shell that started this to queue the job again; left: how often it may be after this."""
    print(f"queued again by the shell outside, at most {left} times more", flush=True)
    write_private(here / f"{REQUEUE}{os.environ['SLURM_JOB_ID']}", b"")


def artefacts(job: Job) -> frozenset[str]:
    """Return what a job's two folders hold: states and weights, images that are kept, measurements."""
    from harness.engine.sample_cache import saved_images

    tensors = {str(path.relative_to(job.scratch.parent)) for path in job.own_scratch.rglob("*.safetensors")}
    images = {f"{name}: {count}" for name, count in saved_images(job.own_scratch).items() if count}
    return frozenset(tensors | images | {f"{job.train_id}/{path.name}" for path in measurement_paths(job.folder)})
