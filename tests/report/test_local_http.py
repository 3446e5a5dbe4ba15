"""The server of a watched report, asked by those who mean no good: bounded, silent, and still there for its reader."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from harness.report.local_http import LocalServer, file_inside


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(0, lambda path: ("text/plain", b"page") if path == "" else None) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield made
        made.shutdown()


def page(server: LocalServer) -> bytes:
    with urlopen(server.address, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def connected(server: LocalServer, words: bytes) -> socket.socket:
    connection = socket.create_connection(server.server_address[:2], timeout=20)
    connection.sendall(words)
    return connection


def closed_after(connection: socket.socket, drip: Callable[[], object] = lambda: None) -> float:
    """Return after how many seconds the other end lets go, while it is sent a byte now and then."""
    begun = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - begun < 20:
        try:
            drip()
            if not connection.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


@pytest.mark.waits
def test_half_a_request_is_not_waited_for_and_a_slow_one_neither(server: LocalServer) -> None:
    server.request_seconds = 1.0
    silent = connected(server, b"GET / HTTP/1.0\r\nHost:")
    assert closed_after(silent) < 10
    slow = connected(server, b"GET / HTTP/1.0\r\n")
    assert closed_after(slow, lambda: slow.sendall(b"X")) < 10


def test_many_connections_are_bounded_and_the_reader_is_answered(server: LocalServer) -> None:
    before = threading.active_count()
    server.request_seconds = 60.0
    held = [connected(server, b"GET / HTTP/1.0\r\n") for _ in range(150)]
    assert page(server) == b"page"
    for _ in range(100):  # threads of those that were cut off end in a moment
        if threading.active_count() - before <= server.most_connections:
            break
        time.sleep(0.1)
    assert threading.active_count() - before <= server.most_connections
    assert len(server.ends) <= server.most_connections
    assert page(server) == b"page"
    for connection in held:
        connection.close()


def test_nothing_that_anybody_sends_is_seen_in_the_terminal(
    server: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(20):
        broken = connected(server, b"GET / HTTP/1.0\r\nHost: x\r\n")
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.close()  # as a reset
    root = server.root.encode()
    host = f"\r\nHost: 127.0.0.1:{server.server_address[1]}\r\n\r\n".encode()
    for words in (
        b"\0\xff\n\n", b"GET\r\n\r\n", b"GET //[ HTTP/1.0" + host, b"GET http://[::1 HTTP/1.0" + host,
        b"\x1b]0;x\x07\r\n\r\n",
        b"GET " + root + b"a" * 5000 + b" HTTP/1.0" + host, b"GET " + root + b"%00 HTTP/1.0" + host, b"GET /x\r\n\r\n",
        b"GET " + root + b" HTTP/9.9" + host, b"POST / HTTP/1.0" + host, b"GET /" + b"a" * 70_000 + b" HTTP/1.0" + host,
    ):  # fmt: skip
        closed_after(connected(server, words))
    assert page(server) == b"page"
    assert capfd.readouterr() == ("", "")


def test_only_files_of_the_folder_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "a.csv").write_text("1", encoding="utf-8")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "circle").symlink_to(folder / "circle")
    assert file_inside(folder, "tables/a.csv") == ("text/csv", b"1")
    for path in ("", "tables", "../secret", "/etc/passwd", "out", "circle", "circle/x", "\0", "a" * 5000, "a/" * 5000):
        assert file_inside(folder, path) is None
