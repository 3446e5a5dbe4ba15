"""Processes that begin where torch has been imported: once for all of them, which is most of what they would do."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

LOADED = ["harness.engine.train", "harness.engine.sample", "harness.measure.evaluate", "submitit"]


def forkserver() -> ForkServerContext:
    """Return what starts processes that have nothing of this one's but what is loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


class Command:
    """A command of the harness in a process, folder and environment of its own, as subprocess.Popen would have it."""

    returncode: int | None = None

    def __init__(self, words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self.output = Path(name)
        self.process = forkserver().Process(target=_call, args=(words, folder, dict(environment), self.output))
        self.process.start()

    def runs(self) -> bool:
        """Tell whether it has not ended."""
        return self.process.is_alive()

    def communicate(self) -> tuple[str, None]:
        """Wait for the end; return what was printed."""
        self.process.join()
        self.returncode, printed = self.process.exitcode, self.output.read_text("utf-8")
        self.output.unlink()
        return printed, None


def _call(words: tuple[str, ...], folder: Path, environment: dict[str, str], output: Path) -> None:
    with output.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["harness", *words]
    from harness.cli import main

    main()
