"""This machine as a launcher: a pool, whose jobs begin and end with the command that sends them."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from harness.config.cluster_profile import LocalProfile
from harness.errors import UserError
from harness.jobs import local_pool
from harness.jobs.job import Job
from harness.jobs.notification import tell_end, tell_failures
from harness.jobs.preemption import NEVER, Deadline
from harness.launchers.launcher import Launcher, QueuedJob
from harness.store.records import Submission
from harness.store.store import Store


class LocalLauncher(Launcher):
    """A pool of processes. What another process works on already, it skips; what runs is told by the files alone."""

    Profile, name, title = LocalProfile, "local", "this machine"
    profile: LocalProfile

    def __init__(self, profile: LocalProfile | None = None, deadline: Deadline = NEVER, alone: bool = True) -> None:
        """deadline: when jobs stop. alone: this process is none of torchrun's, which do one job after the other."""
        super().__init__(profile)
        self.deadline, self.alone = deadline, alone

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse more jobs at once than the GPUs are to be shared by."""
        local_pool.check_room(jobs, self.profile.jobs)

    def send_once(self, jobs: Sequence[Job], grids: Collection[Path], hear: Callable[..., None], wait: bool) -> None:
        """Run jobs here, and return when all have ended; hear: as `local_pool.OnChange`."""
        began = time.time()
        if self.alone and (self.profile.jobs > 1 or local_pool.needs_workers(jobs)):
            local_pool.run_in_workers(jobs, self.profile.jobs, hear, self.deadline)
        else:
            local_pool.run_inline(jobs, hear, self.deadline)
        tell_failures(self.profile.notify, jobs, began)
        if self.profile.notify:
            tell_end(self.profile.notify, jobs[0].store)

    def ask(self, names: Collection[str], patience: float = 0) -> list[QueuedJob]:
        """Return none: there is no queue."""
        return []

    def cancel(self, ids: Collection[str]) -> None:
        """End none, for `ask` tells of none: Ctrl-C ends them where they run."""

    def log(self, store: Store, record: Submission) -> Path:
        """Refuse, for what they print is in the terminal that they were sent from.

        Raises:
            UserError: always.
        """
        raise UserError(f"{store.study}: its jobs ran on this machine, and printed to the terminal they were sent from")
