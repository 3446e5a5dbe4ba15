"""What `harness doctor` looks at on the nodes of a cluster, in a job of the very kind that trainings are."""

import platform
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.jobs.job import Job

if TYPE_CHECKING:
    from harness.engine.distributed import World

RENAMES = 200


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; words: what was found, and where it is wrong what to do."""

    what: str
    right: bool
    words: str


def look(what: str, at: Callable[[], str]) -> Finding:
    """Look at one thing; what it raises is what is wrong with it."""
    try:
        return Finding(what, True, at())
    except (UserError, OSError, RuntimeError, AssertionError) as error:
        return Finding(what, False, str(error).strip() or type(error).__name__)


@dataclass(frozen=True)
class Examination:
    """Runs on all nodes of a job, one task on each or several, and leaves its findings in `folder`."""

    folder: Path
    gpus: int
    jobs: tuple[Job, ...]

    @property
    def path(self) -> Path:
        """Where the findings are when all is looked at."""
        return self.folder / "findings.json"

    def __call__(self) -> None:
        """Look; all processes must call this."""
        from harness.engine.distributed import joined

        with joined() as world:
            mine = [look("GPUs", self._see_gpus), look("data and weights", self._find_ingredients)]
            hosts = world.all_gather(platform.node())
            parts = world.all_gather([f"{f.words} (on {platform.node()})" for f in mine if not f.right])
            wrong = [words for part in parts for words in part]
            together = [
                look("all-reduce", lambda: _reduce(world)),
                look("shared folder", lambda: _rename(world, self.folder)),
            ]
            if world.leads:
                found = [*together, *(f for f in mine if f.right), *(Finding("a node", False, w) for w in wrong)]
                write_json(self.path, {"hosts": hosts, "findings": [asdict(finding) for finding in found]})

    def _see_gpus(self) -> str:
        import torch

        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.gpus and not seen:
            raise UserError(f"{self.gpus} asked for and none seen: look at gpus_by in the profile, and at the driver")
        return f"{seen} seen, {self.gpus} asked for"

    def _find_ingredients(self) -> str:
        from harness.jobs.preflight import check

        check(self.jobs)
        return f"what {len(self.jobs)} trainings need is here" if self.jobs else "no grid was named: nothing to find"


def _reduce(world: "World") -> str:
    """Add up ones over all processes, as the gradients are."""
    import torch

    from harness.engine.distributed import device

    start = time.perf_counter()
    total = world.mean({"one": torch.ones((), device=device()) * world.size})["one"]
    assert float(total) == world.size, f"the sum over {world.size} processes came out as {float(total)}"
    return f"{world.size} processes, {1000 * (time.perf_counter() - start):.0f} ms"


def _rename(world: "World", folder: Path) -> str:
    """Replace a file again and again in the leading process, while the others read it: never missing, never torn.

    Raises:
        UserError: it was.
    """
    path = folder / "renamed.json"
    if world.leads:
        write_json(path, [uuid.uuid4().hex] * 1000)
    seen_after = _wait_for(path)
    world.all_gather(None)  # all see it
    torn = 0
    for _ in range(RENAMES):
        if world.leads:
            write_json(path, [uuid.uuid4().hex] * 1000)
        else:
            content = read_json(path)
            torn += content is None or len(set(content)) != 1
    wrong, latest = sum(world.all_gather(torn)), max(world.all_gather(seen_after))
    if wrong:
        raise UserError(f"{folder}: {wrong} reads of a file that was being replaced found it missing or torn")
    return f"{RENAMES} files replaced under their readers, a new one seen after {latest:.2f} s"


def _wait_for(path: Path, seconds: float = 60) -> float:
    """Return after how many seconds a file is there.

    Raises:
        UserError: it does not appear.
    """
    start = time.monotonic()
    while not path.is_file():
        if time.monotonic() - start > seconds:
            raise UserError(f"{path.parent}: what one node writes another does not see; choose a shared --scratch")
        time.sleep(0.01)
    return time.monotonic() - start
