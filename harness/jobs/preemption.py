"""What happens at a signal, and at the end of the time that `harness run --minutes` was given.

SIGUSR2 comes before the time limit (`signal_seconds`): a checkpoint is written at once, then submitit's handler asks
`SlurmTask.checkpoint` (slurm/task.py) what to queue again, and ends the job.
SIGTERM comes when SLURM takes the machine away, or somebody cancels: a checkpoint, and on until the end. SLURM itself
queues a preempted job again, unless it ended by itself; and a cancelled one must not queue itself again.
SIGINT, Ctrl-C, ends `harness run`: the pool's workers do not hear it, and end with their parent (jobs/local_pool.py).
When the time is up, a checkpoint is written, and nothing more is begun.
SIGKILL leaves nobody to do anything: what is lost is what came after the last checkpoint (`checkpoint_minutes`).
All are obeyed between two steps: `Trainer.train_to` (engine/train.py) saves there; and between drawn samples.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import OutOfTime
from harness.process_group import under_slurm

if TYPE_CHECKING:
    from harness.engine.distributed import World


@dataclass(frozen=True)
class Deadline:
    """When to stop, by the clock of `time.monotonic`, which all processes of a machine share; by default never."""

    at: float = math.inf

    @classmethod
    def after(cls, minutes: float | None) -> "Deadline":
        """Return the end of so many minutes from now on; never for None."""
        return cls() if minutes is None else cls(time.monotonic() + 60 * minutes)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.at


NEVER = Deadline()
CALLS, SECONDS = 16, 2.0  # steps between two times that processes ask each other, at most, and about how long that is


class WorkerSignals:
    """A worker's own handlers, where a job of SLURM's has started it: SIGUSR2 stops what it is doing, for good.

    Between two steps it does so in order, by `OutOfTime`; elsewhere like a kill, after which what is stored is whole:
    an exception that comes from nowhere may be taken for what is wrong with a file that is being read. SIGTERM alone
    stops nothing. A worker is started with both blocked, so that none is lost, or kills it, before this.

    end: says that it was stopped, and ends the process.
    """

    NUMBERS = (signal.SIGUSR2, signal.SIGTERM)

    def __init__(self, end: Callable[[], None]) -> None:
        self.end, self.heard, self.busy = end, False, False
        if under_slurm():
            for number in self.NUMBERS:
                signal.signal(number, self._receive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.NUMBERS)

    def _receive(self, number: int, frame: object) -> None:
        if number != signal.SIGUSR2 or self.heard:
            return
        self.heard = True
        if self.busy and frame is None:  # `PreemptionHandler` hands it on, and has saved
            raise OutOfTime
        if self.busy:
            self.end()

    @contextmanager
    def obeyed(self) -> Iterator[None]:
        """Do something until the signal comes.

        Raises:
            OutOfTime: it came, now or before.
        """
        self.busy = True
        try:
            if self.heard:
                raise OutOfTime
            yield
        finally:
            self.busy = False


class PreemptionHandler:
    """Listens while a job trains or draws; the signals' own handlers act as soon as the checkpoint is written.

    At other times there is nothing to save, and submitit's handlers hear the signals as ever. Of several processes all
    must listen, for the sums of all are saved, and a signal does not reach them at the same step.

    deadline: when the work is to stop; all processes must be given one, or none of them.
    """

    def __init__(self, world: "World", deadline: Deadline = NEVER) -> None:
        self.world, self.deadline = world, deadline
        self.received: int | None = None
        self.handlers: dict[int, Callable[..., Any]] = {}
        self.asked, self.calls, self.wait = time.monotonic(), 0, 1

    def __enter__(self) -> "PreemptionHandler":
        if under_slurm():
            for number in (signal.SIGUSR2, signal.SIGTERM):
                handler = signal.signal(number, self._receive)
                assert callable(handler), f"submitit listens to signal {number}"
                self.handlers[number] = handler
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if kind is None:  # it came after the last
            self._hand_on()

    def on_step(self, save: Callable[[], None]) -> None:
        """Between two steps or evaluations, in all processes: where a signal has come to one, save, and hand it on.

        Raises:
            OutOfTime: the time is up, in all processes; it is saved.
        """
        if (not self.handlers and self.deadline == NEVER) or not self._is_time_to_ask():
            return
        if self.handlers and self.world.any(self.received is not None):
            save()
            self._hand_on()
        if self.deadline != NEVER and self.world.any(self.deadline.passed):
            save()
            raise OutOfTime

    def _is_time_to_ask(self) -> bool:
        """Tell, at the same steps in all processes, whether they ask each other, for which all wait."""
        self.calls += 1
        if self.world.size > 1 and self.calls < self.wait:
            return False
        now = time.monotonic()
        pace = self.world.largest((now - self.asked) / self.calls)  # seconds of a step, of the slowest
        self.asked, self.calls, self.wait = now, 0, min(CALLS, max(1, int(SECONDS / max(pace, 1e-9))))
        return True

    def _hand_on(self) -> None:
        number, self.received = self.received, None
        if number is not None:
            self.handlers[number](number, None)

    def _receive(self, number: int, _: object) -> None:
        if self.received != signal.SIGUSR2:  # which ends the job, and must not be forgotten for a SIGTERM after it
            self.received = number
