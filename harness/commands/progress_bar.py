"""What a person sees while a grid runs on this machine: each run's end, and the time left."""

import threading
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.jobs.job import Job, Outcome
from harness.store.records import Heartbeat


class Watch:
    """A progress bar over training steps, fed by the jobs' own heartbeats."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.total = len(jobs)
        self.ended = 0
        self.running: dict[str, Job] = {}
        self.lock = threading.Lock()
        self.steps_ended = 0
        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.task: TaskID = self.bar.add_task(f"0/{self.total} trainings", total=sum(job.steps + 1 for job in jobs))
        self.stopped = threading.Event()
        self.poll = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Watch":
        self.bar.start()
        self.poll.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.poll.join()
        self._draw()
        self.bar.stop()

    def tell(self, job: Job, outcome: Outcome | None) -> None:
        """Hear that a job has started (None) or how it ended."""
        with self.lock:
            if outcome is None:
                self.running[job.train_id] = job
                return
            self.running.pop(job.train_id, None)
            self.ended += 1
            self.steps_ended += job.steps + 1
        what, aligned = job.train.regularizer, job.train.alignment
        name = " ".join(filter(None, (what.kind, what.loss, what.noise))) if what else ""
        name = " + ".join(filter(None, (name, f"aligned with {aligned.encoder}" if aligned else ""))) or "baseline"
        end = f"{outcome.state}: {outcome.message}" if outcome.message else outcome.state
        self.console.print(f"{self.ended}/{self.total} {job.train_id} {name}, seed {job.train.seed}: {end}")

    def _poll(self) -> None:
        while not self.stopped.wait(0.5):
            self._draw()

    def _draw(self) -> None:
        with self.lock:
            jobs, done = list(self.running.values()), self.steps_ended
        heartbeats = [Heartbeat.read(job.store.run_folder(job.train_id)) for job in jobs]
        steps = done + sum(heartbeat.step for heartbeat in heartbeats if heartbeat)
        self.bar.update(self.task, completed=steps, description=f"{self.ended}/{self.total} trainings")
