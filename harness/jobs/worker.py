"""Processes of this machine that do one job after the other: one process, or several that share each training."""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.config.settings import Resources
from harness.jobs.job import Job, Outcome
from harness.process_group import Place, hide_gpus, meeting_at


class WorkerError(RuntimeError):
    """A process of a worker died, or failed at its part of a run that others share."""


class Worker:
    """Processes that do jobs together, as many as `resources` say; multiprocessing ends them when this process ends.

    slot: which of several workers on this machine it is. GPUs go by that: each process has one of its own, where there
    are enough.
    """

    def __init__(self, resources: Resources, slot: int = 0) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.size, self.on_gpu, self.usable = resources.team, resources.gpus > 0, True
        size, first = self.size, slot * self.size
        self.folder = tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True)
        meeting = meeting_at(Path(self.folder.name) / "rendezvous")
        self.pipes, self.processes = [], []
        for rank in range(size):
            pipe, other = spawn.Pipe()
            place = Place(rank, size, first + rank, meeting)
            process = spawn.Process(target=_serve, args=(other, os.getpid(), place, self.on_gpu))
            process.daemon = True
            process.start()
            other.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def fits(self, job: Job) -> bool:
        """Tell whether it can do this job: it is whole, has as many processes as asked, and sees GPUs or not."""
        asked = job.resources.team, job.resources.gpus > 0
        return self.usable and (self.size, self.on_gpu) == asked

    def do(self, job: Job) -> Outcome:
        """Have a job done by all processes together, and return the outcome that the leading one tells.

        Raises:
            WorkerError: a process died, or failed beside others; the worker is ended.
        """
        try:
            return self._do(job)
        except WorkerError:
            self.kill()
            raise

    def _do(self, job: Job) -> Outcome:
        for rank, pipe in enumerate(self.pipes):
            try:
                pipe.send(job)
            except OSError:
                raise self._died(rank) from None
        leading, silent = Outcome("failed"), list(range(self.size))
        while silent:
            ready = wait([self.pipes[rank] for rank in silent])
            for rank in [rank for rank in silent if self.pipes[rank] in ready]:
                outcome = self._hear(rank)
                silent.remove(rank)
                leading = outcome if rank == 0 else leading
                if outcome.state == "failed" and self.size > 1:  # it has ended, and the others would wait for it
                    self.kill()
                    if rank == 0:
                        return outcome
                    raise WorkerError(f"process {rank} of 0 to {self.size - 1}: {outcome.message}")
        return leading

    def _hear(self, rank: int) -> Outcome:
        try:
            outcome: Outcome = self.pipes[rank].recv()
        except (EOFError, OSError):
            raise self._died(rank) from None
        return outcome

    def _died(self, rank: int) -> WorkerError:
        which = f" {rank} of 0 to {self.size - 1}" if self.size > 1 else ""
        return WorkerError(f"the worker process{which} died: killed, or out of memory")

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


def _serve(pipe: Connection, parent: int, place: Place, on_gpu: bool) -> None:
    from harness.engine.distributed import joined

    if not on_gpu:
        hide_gpus()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with joined(place):
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            try:
                outcome = job()
            except Exception as error:
                pipe.send(Outcome("failed", f"{type(error).__name__}: {error}"))
                raise
            pipe.send(outcome)


def _end_with(parent: int) -> None:
    """End when the process that started this one was killed, for then nobody would ever stop it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
