"""Who runs the jobs: this process, a local pool, or SLURM. The job is the same callable for all three."""

import itertools
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job, Outcome
from harness.spec import Resources

Told = Callable[[Job, Outcome | None], None]


def run_inline(jobs: Sequence[Job], tell: Told) -> None:
    """Run the jobs one after the other in this process; `tell` hears of each start (None) and end."""
    for job in jobs:
        tell(job, None)
        tell(job, job())


def run_pool(jobs: Sequence[Job], workers: int, tell: Told) -> None:
    """Run the jobs in `workers` processes.

    Each worker is a pool of one, so that a worker that dies (killed, out of memory) fails the one run it was at, and
    the next run gets a fresh one. `tell` is called from several threads.
    """
    queue = deque(jobs)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers as they start
    slots = [threading.Thread(target=_slot, args=(queue, tell), daemon=True) for _ in range(min(workers, len(jobs)))]
    for slot in slots:
        slot.start()
    for slot in slots:
        while slot.is_alive():
            slot.join(0.2)  # in short steps, so that Ctrl-C is heard


def _slot(queue: deque[Job], tell: Told) -> None:
    spawn = multiprocessing.get_context("spawn")
    executor: ProcessPoolExecutor | None = None
    while queue:
        try:
            job = queue.popleft()
        except IndexError:
            break
        executor = executor or ProcessPoolExecutor(1, mp_context=spawn, initializer=_die_with, initargs=(os.getpid(),))
        tell(job, None)
        try:
            tell(job, executor.submit(job).result())
        except BrokenProcessPool:
            executor.shutdown(wait=False)
            executor = None
            tell(job, job.fail(RuntimeError("the worker process died: killed, or out of memory")))
    if executor:
        executor.shutdown()


def _die_with(parent: int) -> None:
    """Let a worker end when the process that started it is gone, for then nobody would ever stop it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def submit(jobs: Sequence[Job], logs: Path) -> list[str]:
    """Send the jobs to SLURM, one array for each set of equal resources; return SLURM's job ids.

    Raises:
        UserError: there is no SLURM here, or it refused the jobs.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    try:
        executor = SlurmExecutor(folder=logs / "%j")
    except RuntimeError:
        message = "submit: no SLURM here ('srun' is not on PATH); 'harness run' runs the same grid on this machine"
        raise UserError(message) from None
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
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": resources.cpus,
        "mem": f"{resources.memory_gb}GB",
        "array_parallelism": count,
        "stderr_to_stdout": True,
    }
    if resources.gpus:
        parameters["gpus_per_node"] = resources.gpus
    if resources.partition:
        parameters["partition"] = resources.partition
    return parameters
