"""Who runs the jobs on this machine: this process, torchrun's, or a pool. SLURM runs the same (`submission.py`)."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

from harness.jobs.job import Job, Outcome
from harness.jobs.worker import Worker, WorkerError

Told = Callable[[Job, Outcome | None], None]


def needs_workers(jobs: Sequence[Job]) -> bool:
    """Tell whether this process cannot do the jobs itself: some are for several processes, or only some for a GPU."""
    return any(job.resources.team > 1 for job in jobs) or len({job.resources.gpus > 0 for job in jobs}) > 1


def run_inline(jobs: Sequence[Job], tell: Told) -> None:
    """Run the jobs one after the other in this process; `tell` hears of each start (None) and end."""
    for job in jobs:
        tell(job, None)
        tell(job, job())


def lead(jobs: Sequence[Job], tell: Told) -> None:
    """Run the jobs as the leading process of torchrun's; the others `follow`."""
    from harness.engine.distributed import joined

    with joined() as world:
        for job in jobs:
            world.decide(lambda job=job: job)  # type: ignore[misc]
            run_inline([job], tell)
        world.decide(lambda: None)


def follow() -> None:
    """Do the jobs that the leading process tells, until it tells no more."""
    from harness.engine.distributed import joined

    with joined() as world:
        while job := world.decide(_nothing):
            job()


def _nothing() -> Job | None:
    return None


def run_pool(jobs: Sequence[Job], workers: int, tell: Told) -> None:
    """Run as many jobs at once as there are `workers`, each in as many processes as it asks for on one machine.

    A worker that dies (killed, out of memory) fails the one run it was at, and the next run gets a fresh one. When this
    process is interrupted or ends, its workers end with it. `tell` is called from several threads.
    """
    queue, stopping = deque(jobs), threading.Event()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers as they start
    slots = [
        threading.Thread(target=_slot, args=(slot, queue, stopping, tell), daemon=True)
        for slot in range(min(workers, len(jobs)))
    ]
    for slot in slots:
        slot.start()
    try:
        for slot in slots:
            while slot.is_alive():
                slot.join(0.2)  # in short steps, so that Ctrl-C is heard
    finally:
        stopping.set()


def _slot(slot: int, queue: deque[Job], stopping: threading.Event, tell: Told) -> None:
    worker: Worker | None = None
    while queue:
        try:
            job = queue.popleft()
        except IndexError:
            break
        if worker and not worker.fits(job):
            worker.end()
            worker = None
        worker = worker or Worker(job.resources, slot)
        tell(job, None)
        try:
            outcome = worker.do(job)
        except WorkerError as error:
            if stopping.is_set():  # the worker was ended with us: the run is interrupted, and has not failed
                return
            outcome = job.fail(error)
        tell(job, outcome)
    if worker:
        worker.end()
