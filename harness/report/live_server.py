"""A study's report while it runs: served to this machine alone, and made anew as results arrive."""

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.files import gc_paused, write_bytes
from harness.report.rendering.html import render, script_of
from harness.report.rendering.page import write_files
from harness.store.records import Failure, Heartbeat, measurement_paths
from harness.store.store import Store
from harness.store.study import progress, study_tables, training_statuses

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


class Watched:
    """A study, the page that shows it as it stands, and how far it is."""

    def __init__(self, store: Store, target: Path) -> None:
        self.store, self.target = store, target
        self.tables = study_tables(store)
        self.began, self.version, self.page = time.monotonic(), 0, b""
        self.first = self.progress = progress(training_statuses(self.tables, store))
        self.fingerprint: object = None

    @gc_paused()
    def refresh(self) -> None:
        """Read how far the study is; make the report again where something arrived since."""
        fingerprint = [(grid, _files(self.store.root)) for grid in self.store.grids()]
        if fingerprint != self.fingerprint:
            self.tables = study_tables(self.store)
            values = write_files(self.store, self.tables, self.target)
            write_bytes(self.target / "index.html", render(values).encode())
            live = values | {"live": self.version + 1} | script_of("theme.js", "runs.js", "live.js")
            self.page = render(live).encode()
            self.fingerprint, self.version = fingerprint, self.version + 1
        self.progress = progress(training_statuses(self.tables, self.store))

    def progress_json(self) -> bytes:
        """Return the version of the page, and how far the study is, as JSON."""
        seconds_left = self.progress.seconds_left(self.first, time.monotonic() - self.began)
        words = self.progress.words(seconds_left)
        return json.dumps({"version": self.version, "share": self.progress.share, "words": words}).encode()


def _files(root: Path) -> list[tuple[str, ...]]:
    """Return what tells that a result, a failure or a job arrived or went: folders by what they hold."""
    contents: list[tuple[str, ...]] = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir():
            inside = {path.name for path in folder.iterdir()}
            evaluated = [path.name for path in measurement_paths(folder)] if "evals" in inside else []
            contents.append((folder.name, *sorted(inside & {Failure.FILE, Heartbeat.FILE}), *evaluated))
    return contents


class Handler(BaseHTTPRequestHandler):
    """Answers with the page, with how far the study is, and with files of the report's folder and no other."""

    def __init__(self, watched: Watched, *arguments: object) -> None:
        self.watched = watched
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer one request; one that names another host was led here by a foreign page and is refused."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        path = unquote(urlsplit(self.path).path)
        if path in ("/", "/index.html"):
            self._answer("text/html", self.watched.page)
        elif path == "/progress.json":
            self._answer("application/json", self.watched.progress_json())
        elif file := inside(self.watched.target, path):
            self._answer(guess_type(file.name)[0] or "text/plain", file.read_bytes())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: a line a second would bury what the terminal shows."""


def inside(folder: Path, path: str) -> Path | None:
    """Return the file that a request's path names; None where there is none or it lies, or leads, out of the folder."""
    if "\0" in path:
        return None
    root = folder.resolve()
    file = (root / path.lstrip("/")).resolve()
    return file if file.is_relative_to(root) and file.is_file() else None


def serve(
    store: Store,
    target: Path,
    port: int,
    on_ready: Callable[[str], object],
    every: float = 1.0,
    stop: threading.Event | None = None,
) -> None:
    """Serve the report of a study on this machine's loopback until stopped or interrupted; port 0 takes a free one.

    Raises:
        UserError: there is no such study.
        OSError: the port is taken.
    """
    watched, stop = Watched(store, target), stop or threading.Event()
    watched.refresh()
    with ThreadingHTTPServer((LOOPBACK, port), partial(Handler, watched)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        on_ready(f"http://{LOOPBACK}:{server.server_address[1]}/")
        try:
            while not stop.wait(every):
                watched.refresh()
        finally:
            server.shutdown()
