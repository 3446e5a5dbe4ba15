"""Who runs the jobs: this process, a local pool, or SLURM. The job is the same callable for all three."""

import itertools
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job, Outcome
from harness.launch.worker import Worker, WorkerError
from harness.settings import Resources

Told = Callable[[Job, Outcome | None], None]


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
        threading.Thread(target=_slot, args=(queue, stopping, tell), daemon=True)
        for _ in range(min(workers, len(jobs)))
    ]
    for slot in slots:
        slot.start()
    try:
        for slot in slots:
            while slot.is_alive():
                slot.join(0.2)  # in short steps, so that Ctrl-C is heard
    finally:
        stopping.set()


def _slot(queue: deque[Job], stopping: threading.Event, tell: Told) -> None:
    worker: Worker | None = None
    while queue:
        try:
            job = queue.popleft()
        except IndexError:
            break
        if worker and not worker.fits(job):
            worker.end()
            worker = None
        worker = worker or Worker(job.resources.team)
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


def check_slurm() -> None:
    """Refuse before anything is written.

    Raises:
        UserError: there is no SLURM here.
    """
    if shutil.which("srun") is None:
        raise UserError("submit: no SLURM here ('srun' is not on PATH); 'harness run' runs the same grid locally")


def submit(jobs: Sequence[Job], logs: Path) -> list[str]:
    """Send the jobs to SLURM, one array for each set of equal resources; return SLURM's job ids.

    Raises:
        UserError: there is no SLURM here, or it refused the jobs.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    check_slurm()
    executor = SlurmExecutor(folder=logs / "%j")
    ids: list[str] = []
    by_resources = sorted(jobs, key=lambda job: job.resources.model_dump_json())
    for _, group in itertools.groupby(by_resources, key=lambda job: job.resources):
        array = list(group)
        executor.update_parameters(**_parameters(array[0].resources, len(array)))
        try:
            with executor.batch():
                sent = [executor.submit(job) for job in array]
        except FailedJobError as error:
            raise UserError(f"submit: SLURM refused the jobs: {str(error).strip().splitlines()[-1]}") from None
        ids += [job.job_id for job in sent]
    return ids


def _parameters(resources: Resources, count: int) -> dict[str, object]:
    parameters: dict[str, object] = {
        "job_name": "harness",
        "time": max(1, round(resources.hours * 60)),
        "nodes": resources.nodes,
        "ntasks_per_node": resources.team,
        "cpus_per_task": resources.cpus,
        "mem": f"{resources.memory_gb * resources.team}GB",
        "srun_args": ["--kill-on-bad-exit=1"],  # one process that fails must not leave the others waiting
        "array_parallelism": count,
        "stderr_to_stdout": True,
    }
    if resources.gpus:
        parameters["gpus_per_node"] = resources.gpus
    if resources.partition:
        parameters["partition"] = resources.partition
    return parameters
