"""A job as submitit runs it under SLURM: not once it is cancelled, and queued again as long as it gains something."""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import UserError
from harness.jobs.job import Job
from harness.slurm.client import unfinished_jobs
from harness.store.records import Submission, measurement_paths
from harness.store.store import RunStatus

SHARE = 0.5  # of its hours


@dataclass(frozen=True)
class SlurmTask:
    """submitit's callable.

    reached: what the training's folders held when SLURM was last asked to queue it again; None where that has not been.
    began: when this process was handed it, by the clock of `time.monotonic`.
    """

    job: Job
    reached: frozenset[str] | None = None
    began: float = field(default_factory=time.monotonic, compare=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Note the moment: each of SLURM's jobs is a process of its own, which unpickles its task at once."""
        self.__dict__.update(state, began=time.monotonic())

    def __call__(self) -> RunStatus:
        """Do the job, in all processes that share it."""
        return self.job(self.cancelled)

    def checkpoint(self, *_: Any) -> Any:
        """Tell submitit what to queue again after a preemption or a time limit: the same task, unless cancelled.

        Raises:
            UncompletedJobError: it gained nothing and had half of its hours to do so: the next would gain as little. A
                failure of the class "time limit".
        """
        from submitit.core.utils import UncompletedJobError
        from submitit.helpers import DelayedSubmission

        with suppress(UserError):
            unfinished_jobs()  # waits for a controller that is away, which submitit asks only once
        if self.cancelled():
            return None
        reached, seconds = artefacts(self.job), time.monotonic() - self.began
        # One that was ended sooner was preempted, which says nothing of what the next will have; nor does the first.
        if self.reached == reached and seconds > 3600 * self.job.resources.hours * SHARE:
            raise UncompletedJobError("nothing was gained since the job was last queued again, so it is not once more")
        return DelayedSubmission(replace(self, reached=reached))

    def cancelled(self) -> bool:
        """Tell whether `harness cancel` has ended the job of SLURM's that this is."""
        submission = Submission.read(self.job.scratch)
        return submission is not None and submission.cancelled


def artefacts(job: Job) -> frozenset[str]:
    """Return what a job's two folders hold: states and weights, images that are kept, measurements."""
    from harness.engine.sample_cache import saved_images

    tensors = {str(path.relative_to(job.scratch)) for path in job.scratch.rglob("*.safetensors")}
    images = {f"{name}: {count}" for name, count in saved_images(job.scratch).items() if count}
    return frozenset(tensors | images | {path.name for path in measurement_paths(job.folder)})
