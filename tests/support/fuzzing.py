"""Inputs mutated from valid ones, and what every command owes whoever gives it one: exit 0 or 2, no traceback, no hang,
no terminal escape, little memory."""

import contextlib
import copy
import io
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.cli import main

SECONDS = 10  # after which a command is said to hang
MEMORY = 1 << 30  # bytes that one input may cost beside what the process has taken before

# What has broken readers before: YAML 1.1, not finite, huge, deep, control characters, markup of every kind, paths.
SCALARS: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**70, 1e308, float("nan"), float("inf"), -0.0, "", " ", "~", "no", "1e3", "12:00:00",
    "0o17", "0x1F", "1_000", "2026-01-01", ".nan", "../../x", "/etc/passwd", "~/x", "a" * 300, "é" * 200, "\udcff",
    "\x1b[31m", "a\nb", "a\x00b", "\u202e", "[/x]", "[bold]", "<script>alert(1)</script>", "\\input{x}", "=1+1", "＝1",
    "%s{}", "*", "&a", "${HOME}", "$(id)", "`id`", "; id",
)  # fmt: skip
PIECES: tuple[bytes, ...] = (
    b":", b"- ", b"\t", b"\n", b"{", b"}", b"[", b"]", b"'", b'"', b"&a ", b"*a", b"<<: *a", b"!!int ", b"---\n",
    b"!!python/object:os.system ", b"...", b"#", b"|", b">", b"? ", b"\xff\xfe", b"\x00", b"\x1b]0;x\x07", b"NaN",
    b"Infinity", b"-1", b"1e999", b"12:00:00", b"null", b"[" * 3000, b"\xef\xbb\xbf", b"\xe2\x80\xae",
)  # fmt: skip


class Hang(BaseException):
    """A command did not end in time; nothing that takes any exception for an answer takes this one."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    text: str


class Content(bytes):
    """Bytes of a file, of which a failing test shows the beginning."""

    def __repr__(self) -> str:
        return f"{bytes(self[:300])!r}{f' … {len(self)} bytes' if len(self) > 300 else ''}"


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise in the main thread once it has worked or waited for so long; to wait for a core of a busy machine is none
    of its time."""
    start = time.monotonic() - waited_for_a_core()

    def look(*_: object) -> None:
        if time.monotonic() - waited_for_a_core() - start > seconds:
            raise Hang(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def waited_for_a_core() -> float:
    """Return for how many seconds this process's first thread has been ready to run, and did not (proc(5))."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Hold what is done with one input to the time and the memory that it may take."""
    peak = peak_memory()
    with time_limit(SECONDS):
        yield
    assert peak_memory() - peak < MEMORY, f"took {(peak_memory() - peak) >> 20} MiB"


def command(folder: Path, *words: str) -> Outcome:
    """Run a command in a folder, in this process, and check what holds for every input."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    code, peak = 0, peak_memory()
    arguments = sys.argv
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        sys.argv = ["harness", *words]
        try:
            with time_limit(SECONDS):
                main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        finally:
            sys.argv = arguments
    text = printed.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code in (0, 2), f"exit {code}: {text[-2000:]}"
    assert code == 0 or text.strip(), "refused without a word"
    assert "Traceback" not in text, text[-2000:]
    assert not any(control in text for control in "\x1b\x07\x00\u202e"), f"a terminal would obey: {text[-2000:]!r}"
    assert peak_memory() - peak < MEMORY, f"took {(peak_memory() - peak) >> 20} MiB"
    return Outcome(code, text)


def places_in(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside nested lists and mappings."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, value in items for place in places_in(value, (*path, key)))]


def deep(depth: int) -> Any:
    content: Any = 0
    for _ in range(depth):
        content = [content]
    return content


def change_at(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy in which the container that holds a place is changed: `change(container, key)`."""
    content = copy.deepcopy(content)
    container = content
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return content


@st.composite
def mutated(draw: st.DrawFn, content: Any, mutations: int = 3) -> Any:
    """Return nested lists and mappings of which a few values, keys or branches are others than before."""
    for _ in range(draw(st.integers(1, mutations))):
        places = [place for place in places_in(content) if place]
        if not places:
            break
        path = draw(st.sampled_from(places))
        value = draw(st.sampled_from((*SCALARS, [], {}, [0], {"x": 1}, deep(20), deep(500))))
        kind = draw(st.sampled_from(("replace", "remove", "rename", "swap")))
        other = draw(st.sampled_from(places))
        content = change_at(content, path, CHANGES[kind](value, value_at(content, other)))
    return content


def value_at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def rename(container: Any, key: Any, name: Any) -> None:
    if isinstance(container, dict):
        container[str(name)] = container.pop(key)


CHANGES: dict[str, Callable[[Any, Any], Callable[[Any, Any], None]]] = {
    "replace": lambda value, other: lambda container, key: container.__setitem__(key, value),
    "remove": lambda value, other: lambda container, key: container.__delitem__(key),
    "rename": lambda value, other: lambda container, key: rename(container, key, value),
    "swap": lambda value, other: lambda container, key: container.__setitem__(key, copy.deepcopy(other)),
}


@st.composite
def spliced(draw: st.DrawFn, content: bytes, mutations: int = 3) -> bytes:
    """Return bytes with a few pieces cut out, doubled, put in or changed, perhaps torn off."""
    for _ in range(draw(st.integers(1, mutations))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from((b"", content[start:stop] * 2, bytes([draw(st.integers(0, 255))]), *PIECES)))
        content = content[:start] + piece + content[draw(st.sampled_from((start, stop, stop, len(content)))) :]
    return Content(content)
