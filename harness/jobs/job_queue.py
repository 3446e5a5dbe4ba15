"""In which order jobs are done on one machine: each in its turn, and a training's parts one after the other."""

import threading
from collections import Counter
from collections.abc import Iterable

from harness.jobs.job import Job
from harness.store.status import RunStatus

Place = tuple[str, int]  # a training, and the stage of a part of its work


class JobQueue:
    """Jobs that are taken, each once, by any number of threads."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.waiting: list[tuple[Place, Job]] = [((job.train_id, job.part.stage), job) for job in jobs]
        self.unfinished = Counter(place for place, _ in self.waiting)
        self.changed = threading.Condition()

    def take(self) -> Job | None:
        """Return the next job whose training's earlier parts, and first phase, are done, and wait for one; None where
        none is left."""
        with self.changed:
            while self.waiting:
                for index, (place, job) in enumerate(self.waiting):
                    if not any(self.unfinished[needed] for needed in _needs(place, job)):
                        del self.waiting[index]
                        return job
                self.changed.wait()
        return None

    def end(self, job: Job, outcome: RunStatus) -> None:
        """Hear how a job ended; where it failed or was skipped, what needs it is never taken."""
        with self.changed:
            place = train_id, stage = job.train_id, job.part.stage
            self.unfinished[place] -= 1
            if not outcome.lets_go_on:
                self.waiting = [w for w in self.waiting if w[0][0] != train_id or w[0][1] <= stage]
                if stage == 0:
                    self.waiting = [w for w in self.waiting if w[1].first_phase_id != train_id]
            self.changed.notify_all()


def _needs(place: Place, job: Job) -> list[Place]:
    """Return what must be done before a job: the earlier parts of its training, and the training of a first phase."""
    train_id, stage = place
    first = [(job.first_phase_id, 0)] if job.first_phase_id else []
    return [*first, *((train_id, earlier) for earlier in range(stage))]
