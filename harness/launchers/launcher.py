"""What a launcher does: it sends jobs to where they run, each once; tells what it has of them; ends them; has logs.

This machine is one (`local_launcher`), SLURM another (`harness.slurm.slurm_launcher`), and a plug-in may bring more
(docs/launchers.md). `executor:` of a profile chooses it, and each submission records whose it is.
"""

import hashlib
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.config.cluster_profile import LAUNCHERS, LauncherProfile
from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.jobs.failures import ENDS
from harness.jobs.job import Job
from harness.launchers import bootstrap
from harness.launchers.private import write_private
from harness.launchers.snapshot import Snapshot
from harness.store.records import Submission
from harness.store.store import Store

BOOTSTRAP = Path(bootstrap.__file__).read_text(encoding="utf-8")
WORK = "harness.launchers.work"  # what does a job's tasks where no module of the launcher's own does
END_STATES = {*ENDS, "COMPLETED", "REVOKED"}


@dataclass(frozen=True)
class QueuedJob:
    """A job as its launcher tells of it: id is 12, or 12_3 in an array; state is a word of SLURM's (PENDING, RUNNING,
    COMPLETING …, and at its end COMPLETED, FAILED, TIMEOUT …).

    reason: why it waits. uid: whose it is.
    """

    id: str
    name: str
    state: str
    reason: str = ""
    uid: int = field(default_factory=os.geteuid)

    @property
    def place(self) -> tuple[str, int | None]:
        """Its name, and its index in an array."""
        index = self.id.rpartition("_")[2]
        return self.name, int(index) if "_" in self.id and index.isdigit() else None

    @property
    def is_mine(self) -> bool:
        """Whether this user sent it."""
        return self.uid == os.geteuid()

    @property
    def is_at_large(self) -> bool:
        """Whether it waits or runs, and is not ending."""
        return not self.has_ended and self.state != "COMPLETING"

    @property
    def has_ended(self) -> bool:
        """Tell whether it is over."""
        return self.state in END_STATES


def unfinished(jobs: Iterable[QueuedJob]) -> list[QueuedJob]:
    """Return those of some jobs that wait, run or are ending."""
    return [job for job in jobs if not job.has_ended]


@dataclass(frozen=True)
class Parcel:
    """Jobs of equal resources that are sent together, `count` of them, in the user's own folder of jobs.

    tasks: what they are to do. code: what they execute. folders: those that they read and write.
    """

    name: str
    tasks: bytes
    count: int
    resources: Resources
    folder: Path
    code: Snapshot
    folders: tuple[Path, ...] = ()

    def words(self, module: str = WORK) -> list[str]:
        """Return what Python is given to start a module of the code, which knows its task; each file is compared with
        its hash before it is used."""
        hashes = self.code.sha256, f"{self.name}.json", hashlib.sha256(self.tasks).hexdigest()
        return ["-P", "-B", "-u", "-c", BOOTSTRAP, module, str(self.folder), self.code.name, *hashes]

    def write(self, here: Path) -> None:
        """Write the tasks; here: the folder, by its handle."""
        write_private(here / f"{self.name}.json", self.tasks)


class Launcher(ABC):
    """One of them, with what a profile says. Who asks or cancels knows no profile, and takes its defaults.

    Methods raise UserError where what they ask does not answer.
    """

    Profile: ClassVar[type[LauncherProfile]]
    name: ClassVar[str]
    title: ClassVar[str]  # in a sentence

    def __init__(self, profile: Any = None) -> None:
        self.profile = profile or self.Profile(executor=self.name)

    def check(self, jobs: Sequence[Job]) -> None:  # noqa: B027
        """Refuse jobs that could never start, before anything is written.

        Raises:
            UserError: why not.
        """

    def check_here(self) -> None:  # noqa: B027
        """Refuse a machine from which nothing can be sent.

        Raises:
            UserError: what is missing.
        """

    def await_answers(self, patience: float) -> None:  # noqa: B027
        """Wait until what tells how jobs stand is there, which is away for a moment.

        Raises:
            UserError: it does not answer.
        """

    @abstractmethod
    def send_once(self, jobs: Sequence[Job], grids: Collection[Path], hear: Callable[..., None], wait: bool) -> None:
        """Send those jobs of one study that it does not have yet; wait: until all are sent. hear: is told of it."""

    @abstractmethod
    def ask(self, names: Collection[str], patience: float = 0) -> list[QueuedJob]:
        """Return its jobs of some names, whoever sent them; also those that ended, as long as it knows of them.

        patience: seconds for which it is asked again where it is away.
        """

    @abstractmethod
    def cancel(self, ids: Collection[str]) -> None:
        """End jobs."""

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """Return how jobs ended that `ask` does not tell any more, where that is known: id → state."""
        return {}

    def hides_jobs(self) -> bool:
        """Tell whether nobody is told of the jobs of others."""
        return False

    def log(self, store: Store, record: Submission) -> Path:
        """Return the file of what a job prints."""
        return store.slurm_folder.with_name(record.folder) / f"{record.token}.out"


class Queueing(Launcher):
    """What `submission` needs of one with a queue: what is sent is recorded before, and found by its parcel's name."""

    largest = 1  # jobs in one parcel

    @abstractmethod
    def send(self, parcel: Parcel, here: Path, needs: Sequence[str]) -> str:
        """Start `parcel.words` of each job and return the parcel's id; here: the folder of jobs, by its handle.

        needs: ids of jobs that must end well before.
        """

    def text(self, parcel: Parcel) -> str:
        """Return what a dry run shows of a parcel."""
        return f"{parcel.name}: {parcel.count} × {shlex.join(['python', *parcel.words()[5:]])}\n"

    def limits(self, jobs: Sequence[Job], patience: float = 0) -> list[tuple[int, int]]:
        """Return how many jobs it may hold at all, and how many it still takes, for each limit that some jobs of one
        study come under."""
        return []

    def most(self) -> int:
        """Return the largest number of jobs in a parcel."""
        return self.largest

    def when_silent(self) -> tuple[int | None, int]:
        """Return, by the profile alone, how many jobs it may hold, None for any, and the largest number in a parcel."""
        return None, self.largest

    def seconds_to_end(self) -> float:
        """Return how long a job that is cancelled may take to end."""
        return 30.0


def launcher_of(profile: LauncherProfile) -> Launcher:
    """Return the launcher that a profile is for."""
    launcher: Launcher = LAUNCHERS[profile.executor](profile)
    return launcher


def launcher_named(name: str) -> Launcher:
    """Return the launcher of a submission.

    Raises:
        UserError: it is not here.
    """
    if name not in LAUNCHERS:
        raise UserError(f"the launcher '{name}' is not here; name its file by --plugin")
    launcher: Launcher = LAUNCHERS[name]()
    return launcher
