"""Who runs the jobs: this process, a local pool, or SLURM. The job is the same callable for all three."""

import itertools
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
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
    while True:
        try:
            job = queue.popleft()
        except IndexError:
            return
        worker = worker or Worker()
        tell(job, None)
        try:
            outcome = worker.do(job)
        except (EOFError, OSError):
            if stopping.is_set():  # the worker was ended with us: the run is interrupted, and has not failed
                return
            worker, outcome = None, job.fail(RuntimeError("the worker process died: killed, or out of memory"))
        tell(job, outcome)


class Worker:
    """A process that does one job after the other; multiprocessing ends it when this process ends."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, other = spawn.Pipe()
        spawn.Process(target=_serve, args=(other, os.getpid()), daemon=True).start()
        other.close()

    def do(self, job: Job) -> Outcome:
        """Have a job done and wait for its outcome.

        Raises:
            EOFError, OSError: the process died.
        """
        self.pipe.send(job)
        outcome: Outcome = self.pipe.recv()
        return outcome


def _serve(pipe: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        pipe.send(job())


def _end_with(parent: int) -> None:
    """End when the process that started this one was killed, for then nobody would ever stop it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


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
