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
        """Return the next job whose training's earlier parts are done, and wait for one; None where none is left."""
        with self.changed:
            while self.waiting:
                for index, ((train_id, stage), job) in enumerate(self.waiting):
                    if not any(self.unfinished[train_id, earlier] for earlier in range(stage)):
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
            self.changed.notify_all()
