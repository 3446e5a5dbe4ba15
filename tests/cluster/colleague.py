"""A second person of a lab: another account, which works in the same study at random while its jobs run."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.places import ROOT

UID = 65534  # nobody, with the group of that number
ACCOUNT = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs")
PAUSES = (1.0, 6.0)  # seconds between two commands


@dataclass
class Colleague:
    """One who looks, submits, cancels and retries. python: an interpreter that they, and their jobs, may read.

    quiet: held while they are at a command; who holds it has a moment without them.
    """

    folder: Path
    grid: Sequence[str]
    study: str
    profile: Sequence[str]
    python: Path
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    crashes: list[str] = field(default_factory=list)
    quiet: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, *words: str) -> str:
        """Give a command as the other account; one that SLURM does not answer is refused, and no more than that."""
        place = self.python.parents[2]
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(place / "tree"), "HOME": "/nonexistent", "USER": "nobody",
            "LOGNAME": "nobody", "OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": str(place / "base" / "lib"),
        }  # fmt: skip
        command = [*ACCOUNT, str(self.python), "-m", "harness.cli", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment)
        self.done[words[0] + (" (refused)" if done.returncode else "")] += 1
        if "Traceback" in done.stderr:
            self.crashes.append(f"{' '.join(words)}\n{done.stderr}")
        return done.stdout + done.stderr

    def submit(self, *grid: str) -> str:
        """Send what is not in the queue, of all grids or of some."""
        return self("submit", *(grid or self.grid), "--study", self.study, *self.profile)

    def cancel(self) -> str:
        """End their own jobs."""
        output = self("cancel", self.study, "--yes")
        self.ended += int(output.split()[1]) if output.startswith("Ended ") else 0
        return output

    def retry(self, *which: str) -> str:
        """Send again what failed, or what they had cancelled."""
        return self("retry", self.study, *which, *self.profile)

    def acts(self) -> Iterator[Callable[[], str]]:
        """Yield what they do: first they cancel, then everything in one order after the other."""
        acts = [
            lambda: self("status", self.study), lambda: self("status", self.study, "--json"),
            lambda: self("logs", "--failed", self.study), self.submit, self.cancel,
            lambda: self.retry("--failed"), lambda: self.retry("--class", "cancelled"),
        ]  # fmt: skip
        yield self.cancel
        while True:
            yield from self.random.sample(acts, len(acts))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have them do one thing after the other until the block ends."""
        over = threading.Event()

        def work() -> None:
            for act in self.acts():
                if over.wait(self.random.uniform(*PAUSES)):
                    return
                with self.quiet:
                    act()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def readable_python(place: Path) -> Iterator[Path]:
    """Show this Python, its packages and this tree in a folder that everybody may read; yield the interpreter.

    They may lie where no other account can look. What is shown cannot be written, nor be removed through here.
    """
    shown = {"base": sys.base_prefix, "venv/lib": f"{sys.prefix}/lib", "tree": str(ROOT)}
    program = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "python").symlink_to(place / "base" / "bin" / program)
    (place / "venv" / "pyvenv.cfg").write_text(f"home = {place / 'base' / 'bin'}\n")
    mounted: list[Path] = []
    try:
        for name, source in shown.items():
            (place / name).mkdir(parents=True)
            subprocess.run(["mount", "-o", "bind,ro", source, place / name], check=True)
            mounted.append(place / name)
        yield place / "venv" / "bin" / "python"
    finally:
        for path in reversed(mounted):
            subprocess.run(["umount", "--lazy", path], check=True)


def share(*folders: Path) -> None:
    """Make folders their group's too, and all that will lie below them."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, group=UID)
        folder.chmod(0o2770)
