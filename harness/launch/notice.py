"""What a cluster tells a job by signals: that it must end soon. Then a checkpoint is written at once.

SIGUSR2 comes before the time limit (`signal_seconds`): checkpoint, then submitit queues the job again.
SIGTERM comes when SLURM takes the machine away, or somebody cancels: checkpoint, and go on until the end. SLURM itself
queues a preempted job again, unless it ended by itself; and a cancelled one must not queue itself again.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class Notice:
    """Listens while a training runs; the signals' own handlers act as soon as the checkpoint is written.

    Outside of a training there is nothing to save, and submitit's handlers hear the signals as ever; so they do in
    the processes that do not lead, where they wait for what the leading one does.
    """

    def __init__(self, leads: bool) -> None:
        self.leads = leads
        self.asked: int | None = None
        self.before: dict[int, Handler] = {}

    def __enter__(self) -> "Notice":
        if self.leads and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            for number in (signal.SIGUSR2, signal.SIGTERM):
                before = signal.signal(number, self._hear)
                assert callable(before), f"submitit listens to signal {number}"
                self.before[number] = before
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)
        if kind is None and self.asked is not None:  # it came after the last step
            self.before[self.asked](self.asked, None)

    def attend(self, save: Callable[[], None]) -> None:
        """Between two training steps: where a signal has come, save, and hand it on."""
        if self.asked is None:
            return
        number, self.asked = self.asked, None
        save()
        self.before[number](number, None)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.asked != signal.SIGUSR2:  # which ends the job, and must not be forgotten for a SIGTERM after it
            self.asked = number
