"""Who runs the jobs on this machine: this process, torchrun's, or a pool of workers. SLURM runs the same jobs."""

import math
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.config.settings.resources import Resources
from harness.errors import OutOfTime, UserError
from harness.gpu import gpu_count
from harness.jobs.job import STOPPED, Job
from harness.jobs.job_queue import JobQueue
from harness.jobs.preemption import NEVER, Deadline, WorkerSignals
from harness.process_group import ProcessPlace, places_on_this_machine
from harness.store.status import RunStatus

OnChange = Callable[[Job, RunStatus | None], None]  # hears of each job's start (None) and end


def needs_workers(jobs: Sequence[Job]) -> bool:
    """Tell whether one process cannot do the jobs: some are for several processes, or only some for a GPU."""
    return any(job.resources.team > 1 for job in jobs) or len({job.resources.on_gpu for job in jobs}) > 1


def check_room(jobs: Sequence[Job], workers: int) -> None:
    """Refuse more jobs at once than the GPUs of this machine are to be shared by, where there are any.

    Raises:
        UserError: with what would make room.
    """
    at_once, count = min(workers, len(jobs)), gpu_count() if workers > 1 else 0
    for resources in dict.fromkeys(job.resources for job in jobs if job.resources.on_gpu and count):
        needed = sharing(resources, at_once, count)
        if at_once > 1 and needed > resources.jobs_per_gpu:
            raise UserError(
                f"--jobs {workers}: {at_once} trainings at once, of {resources.gpus} GPU(s) each, are too many for the "
                f"{count} here with resources.jobs_per_gpu: {resources.jobs_per_gpu}; where the memory holds them, "
                f"add --set resources.jobs_per_gpu={needed}"
            )


def sharing(resources: Resources, at_once: int, gpus: int) -> int:
    """Return how many of several jobs at once are on each of a machine's GPUs."""
    return max(1, math.ceil(at_once * resources.gpus / gpus)) if gpus else 1


def run_inline(jobs: Iterable[Job], on_change: OnChange, deadline: Deadline = NEVER) -> None:
    """Run the jobs one after the other in this process, and in all of torchrun's where it is one of them.

    These must all call this, with a deadline or all without; the jobs are those of the leading one.
    """
    from harness.engine.distributed import joined

    queue = JobQueue(jobs)
    with joined() as world:
        while job := world.decide(lambda: None if deadline.passed else queue.take()):
            on_change(job, None)
            outcome = job(deadline=deadline)
            on_change(job, outcome)
            queue.end(job, outcome)


def run_in_workers(jobs: Sequence[Job], workers: int, on_change: OnChange, deadline: Deadline = NEVER) -> None:
    """Run as many jobs at once as there are `workers`, each in as many processes as it asks for on one machine.

    A worker that dies (killed, out of memory) fails the one run it was at, and the next run gets a fresh one. When this
    process is interrupted or ends, its workers end with it. `on_change` is called from several threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers as they start
    queue, stopping = JobQueue(jobs), threading.Event()
    slots = range(min(workers, len(jobs)))
    gpus = gpu_count() if len(slots) > 1 else 0
    share = partial(sharing, at_once=len(slots), gpus=gpus)
    arguments = (queue, on_change, stopping, deadline, share)
    threads = [threading.Thread(target=_fill, args=(slot, *arguments), daemon=True) for slot in slots]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # in short steps, so that Ctrl-C is heard
    finally:
        stopping.set()


def _fill(
    slot: int, queue: JobQueue, on_change: OnChange, stopping: threading.Event, deadline: Deadline,
    share: Callable[[Resources], int],
) -> None:  # fmt: skip
    """Keep a slot busy until the queue is empty, or the time is up."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WorkerSignals.NUMBERS)  # which the workers inherit, and then listen to
    worker: Worker | None = None
    while job := queue.take():
        if deadline.passed:
            queue.end(job, RunStatus("interrupted"))
            break
        if worker and not worker.fits(job):
            worker.end()
            worker = None
        worker = worker or Worker(job.resources, slot)
        on_change(job, None)
        try:
            outcome = worker.do(replace(job, sharing=share(job.resources)), deadline)
        except WorkerError as error:
            if stopping.is_set():  # the worker was ended with us: the run is interrupted, and has not failed
                return
            outcome = job.fail(error)
        on_change(job, outcome)
        queue.end(job, outcome)
        if outcome.state == "interrupted":  # as by a signal to all processes of a job of SLURM's
            break
    if worker:
        worker.end()


class WorkerError(RuntimeError):
    """A process of a worker died, or failed at its part of a run that others share."""


class Worker:
    """Processes of this machine that do one job after the other together, as many as `resources` say.

    slot: which of several workers on this machine it is.
    """

    def __init__(self, resources: Resources, slot: int = 0) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.size, self.on_gpu, self.usable = resources.team, resources.on_gpu, True
        self.folder = tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True)
        self.pipes, self.processes = [], []
        for place in places_on_this_machine(Path(self.folder.name), self.size, slot):
            pipe, other = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(other, place, self.on_gpu), daemon=True)
            process.start()
            other.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def fits(self, job: Job) -> bool:
        """Tell whether it can do this job: it is whole, has as many processes as asked, and sees GPUs or not."""
        return self.usable and (self.size, self.on_gpu) == (job.resources.team, job.resources.on_gpu)

    def do(self, job: Job, deadline: Deadline = NEVER) -> RunStatus:
        """Have a job done by all processes together, and return the outcome that the leading one tells.

        Raises:
            WorkerError: a process died, or failed beside others; the worker is ended.
        """
        outcomes: dict[int, RunStatus] = {}
        try:
            for rank in range(self.size):
                self.pipes[rank].send((job, deadline))
            while silent := [pipe for rank, pipe in enumerate(self.pipes) if rank not in outcomes]:
                ready = wait(silent)
                for rank in [rank for rank, pipe in enumerate(self.pipes) if pipe in ready]:
                    outcomes[rank] = self.pipes[rank].recv()
                    if outcomes[rank].state == "failed" and self.size > 1:  # the others would wait for it
                        self.kill()
                        if rank:
                            raise WorkerError(f"process {rank} of 0 to {self.size - 1}: {outcomes[rank].reason}")
                        return outcomes[rank]
        except (EOFError, OSError):
            self.kill()
            which = f" {rank} of 0 to {self.size - 1}" if self.size > 1 else ""
            raise WorkerError(f"the worker process{which} died: killed, or out of memory") from None
        return outcomes[0]

    def end(self) -> None:
        """Let the processes end, now that there is nothing more to do."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(timeout=60)
        self.kill()

    def kill(self) -> None:
        """End the processes at once; the worker can do no more."""
        self.usable = False
        for process in self.processes:
            process.kill()
            process.join()
        self.folder.cleanup()


def _serve(pipe: Connection, place: ProcessPlace, on_gpu: bool) -> None:
    """Do what comes through the pipe, in a process of a worker."""
    from harness.engine.distributed import joined

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signals = WorkerSignals(partial(_stop, pipe))
    with joined(place, on_gpu):
        while True:
            try:
                job, deadline = pipe.recv()
            except EOFError:
                return
            try:
                with signals.obeyed():
                    outcome = job(deadline=deadline)
            except OutOfTime:
                outcome = RunStatus("interrupted", STOPPED)
            except Exception as error:
                pipe.send(RunStatus("failed", f"{type(error).__name__}: {error}"))
                raise
            pipe.send(outcome)


def _stop(pipe: Connection) -> None:
    """Say that the job was stopped, and end at once."""
    pipe.send(RunStatus("interrupted", STOPPED))
    os._exit(0)


def _end_with_parent() -> None:
    """End when the process that started this one was killed, for then nobody would ever stop it."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
