"""A study's report while it runs: served to this machine alone, and made anew as results arrive."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config.grid import Table
from harness.files import gc_paused, write_bytes
from harness.report.local_http import Answer, LocalServer, file_inside
from harness.report.rendering.html import render, script_of
from harness.report.rendering.page import SCRIPTS, write_files
from harness.store.records import Failure, Heartbeat, measurement_paths
from harness.store.status import TrainingStatus, progress, training_statuses
from harness.store.store import Store
from harness.store.study import study_tables

Statuses = Callable[[Sequence[Table], Store], list[TrainingStatus]]


class Watched:
    """A study, the page that shows it as it stands, and how far it is."""

    def __init__(self, store: Store, target: Path, statuses: Statuses = training_statuses) -> None:
        self.store, self.target, self.statuses = store, target, statuses
        self.tables = study_tables(store)
        self.began, self.version, self.page = time.monotonic(), 0, b""
        self.first = self.progress = progress(statuses(self.tables, store))
        self.fingerprint: object = None

    @gc_paused()
    def refresh(self) -> None:
        """Read how far the study is; make the report again where something arrived since."""
        fingerprint = [(grid, _files(self.store.root)) for grid in self.store.grids()]
        if fingerprint != self.fingerprint:
            self.tables = study_tables(self.store)
            values = write_files(self.store, self.tables, self.target)
            write_bytes(self.target / "index.html", render(values).encode())
            live = values | {"live": self.version + 1} | script_of(*SCRIPTS, "live.js")
            self.page = render(live).encode()
            self.fingerprint, self.version = fingerprint, self.version + 1
        self.progress = progress(self.statuses(self.tables, self.store))

    def progress_json(self) -> bytes:
        """Return the version of the page, and how far the study is, as JSON."""
        seconds_left = self.progress.seconds_left(self.first, time.monotonic() - self.began)
        words = self.progress.words(seconds_left)
        return json.dumps({"version": self.version, "share": self.progress.share, "words": words}).encode()

    def answer(self, path: str) -> Answer | None:
        """Return the page, how far the study is, or a file of the report's folder and no other."""
        if path in ("", "index.html"):
            return "text/html", self.page
        if path == "progress.json":
            return "application/json", self.progress_json()
        return file_inside(self.target, path)


def _files(root: Path) -> list[tuple[str, ...]]:
    """Return what tells that a result, a failure or a job arrived or went: folders by what they hold."""
    contents: list[tuple[str, ...]] = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir():
            inside = {path.name for path in folder.iterdir()}
            evaluated = [path.name for path in measurement_paths(folder)] if "evals" in inside else []
            contents.append((folder.name, *sorted(inside & {Failure.FILE, Heartbeat.FILE}), *evaluated))
    return contents


def serve(
    store: Store,
    target: Path,
    port: int,
    on_ready: Callable[[str], object],
    every: float = 1.0,
    stop: threading.Event | None = None,
    statuses: Statuses = training_statuses,
) -> None:
    """Serve the report of a study on this machine's loopback until stopped or interrupted; port 0 takes a free one.

    on_ready: is given the address, which nobody else can guess. statuses: tells how trainings stand.

    Raises:
        UserError: there is no such study.
        OSError: the port is taken.
    """
    watched, stop = Watched(store, target, statuses), stop or threading.Event()
    watched.refresh()
    with LocalServer(port, watched.answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        on_ready(server.address)
        try:
            while not stop.wait(every):
                watched.refresh()
        finally:
            server.shutdown()
