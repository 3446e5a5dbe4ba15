"""A web server for one reader on this machine, where other people may have accounts and open connections.

Whoever can log in can connect to the loopback: what keeps them out is a random word in the address, which is shown in
the reader's terminal alone. They can take no more than a few connections for a few seconds, and write nothing into that
terminal.
"""

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip

Answer = tuple[str, bytes]  # media type, content


class LocalServer(ThreadingHTTPServer):
    """Answers on the loopback below an address that cannot be guessed.

    answer: a path below that address, "" for the address itself → what is there, None where nothing is.
    """

    daemon_threads = True
    request_queue_size = 128
    most_connections = 32
    request_seconds = 10.0  # for a whole request to arrive
    answer_seconds = 120.0  # for a whole answer to be taken, perhaps through a slow tunnel

    def __init__(self, port: int, answer: Callable[[str], Answer | None]) -> None:
        self.answer, self.root = answer, f"/{secrets.token_urlsafe(16)}/"
        self.ends: dict[Any, float] = {}  # connection → when it is cut off, by time.monotonic()
        super().__init__((LOOPBACK, port), Handler)

    @property
    def address(self) -> str:
        """What a reader types."""
        return f"http://{LOOPBACK}:{self.server_address[1]}{self.root}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; where connections are many, cut off the one that would be so first."""
        if len(self.ends) >= self.most_connections:
            self._cut_off(min(list(self.ends.items()), key=lambda item: item[1])[0])
        self.ends[request] = time.monotonic() + self.request_seconds
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Cut off whoever has had time enough; called by the server every half second."""
        for request, end in list(self.ends.items()):
            if end < time.monotonic():
                self._cut_off(request)

    def _cut_off(self, request: socket.socket) -> None:
        self.ends.pop(request, None)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # which wakes its thread

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        self.ends.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke or sent nonsense: it may be anybody's."""


class Handler(BaseHTTPRequestHandler):
    """One request: answered if it names this server as its host and knows the way."""

    server: LocalServer
    server_version, sys_version = "harness", ""

    def do_GET(self) -> None:
        """Answer one request; one that names another host was led here by a foreign page and is refused."""
        self.server.ends[self.request] = time.monotonic() + self.server.answer_seconds
        port, root = self.server.server_address[1], self.server.root
        path = self.path.partition("?")[0]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif not secrets.compare_digest(path[: len(root)].encode(), root.encode()):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif answer := self.server.answer(unquote(path[len(root) :])):
            self._answer(*answer)
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


def file_inside(folder: Path, path: str) -> Answer | None:
    """Return the file that a request's path names; None where there is none or it lies, or leads, out of the folder."""
    with suppress(OSError, ValueError, RuntimeError):  # a name too long, a NUL in it, a circle of links
        root = folder.resolve()
        file = (root / path.lstrip("/")).resolve()
        if file.is_relative_to(root) and file.is_file():
            return guess_type(file.name)[0] or "text/plain", file.read_bytes()
    return None
