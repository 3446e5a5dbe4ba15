"""What a cluster tells a job by signals: that it must end soon. Then a checkpoint is written at once.

SIGUSR2 comes before the time limit (`signal_seconds`): checkpoint, then submitit queues the job again.
SIGTERM comes when SLURM takes the machine away, or somebody cancels: checkpoint, and go on until the end. SLURM itself
queues a preempted job again, unless it ended by itself; and a cancelled one must not queue itself again.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.process_group import under_slurm

if TYPE_CHECKING:
    from harness.engine.distributed import World

Handler = Callable[[int, FrameType | None], Any]


class PreemptionHandler:
    """Listens while a job trains or draws; the signals' own handlers act as soon as the checkpoint is written.

    At other times there is nothing to save, and submitit's handlers hear the signals as ever. Of several processes all
    must listen, for the sums of all are saved, and a signal does not reach them at the same step.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.asked: int | None = None
        self.before: dict[int, Handler] = {}

    def __enter__(self) -> "PreemptionHandler":
        if under_slurm():
            for number in (signal.SIGUSR2, signal.SIGTERM):
                before = signal.signal(number, self._hear)
                assert callable(before), f"submitit listens to signal {number}"
                self.before[number] = before
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)
        if kind is None:  # it came after the last
            self._hand_on()

    def on_step(self, save: Callable[[], None]) -> None:
        """Between two steps or evaluations, in all processes: where a signal has come to one, save, and hand it on."""
        if self.before and self.world.any(self.asked is not None):
            save()
            self._hand_on()

    def _hand_on(self) -> None:
        number, self.asked = self.asked, None
        if number is not None:
            self.before[number](number, None)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.asked != signal.SIGUSR2:  # which ends the job, and must not be forgotten for a SIGTERM after it
            self.asked = number
