"""A job's sign of life in its run's folder."""

import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path

from harness.files import write_json
from harness.store.store import HEARTBEAT_SECONDS


class Heart:
    """A sign of life in the run's own folder, true from any host, written by a thread of its own."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total, self.phase, self.step = path, total, "starting", 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heart":
        self._write()
        self.thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop. After a failure the last sign stays until the failure is stored: it says at which step that was."""
        self.stopped.set()
        self.thread.join()
        if kind is None:
            self.path.unlink(missing_ok=True)
        else:
            self._write()

    def set(self, phase: str, step: int) -> None:
        """Say what is being done; the next sign tells it."""
        self.phase, self.step = phase, step

    def _beat(self) -> None:
        while not self.stopped.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a full disk may have room again for the next sign
                self._write()

    def _write(self) -> None:
        write_json(self.path, {
            "phase": self.phase, "step": self.step, "total": self.total,
            "time": time.time(), "host": platform.node(), "pid": os.getpid(),
        })  # fmt: skip
