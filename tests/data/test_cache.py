"""A file is made once, whoever wants it at the same time."""

import threading
from pathlib import Path

import pytest

from harness.data.cache import make_once
from harness.errors import UserError


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made: list[str] = []
    with pytest.raises(UserError, match=r"file: cannot be written: File exists; mend that, or name another"):
        make_once(tmp_path / "file" / "result", lambda: made.append("result"))
    assert not made


def test_of_two_who_want_it_at_once_one_waits(tmp_path: Path) -> None:
    made, path, begun, finish = [], tmp_path / "result", threading.Event(), threading.Event()

    def make(name: str) -> None:
        made.append(name)
        begun.set()
        assert finish.wait(10)
        path.write_text(name)

    first = threading.Thread(target=make_once, args=(path, lambda: make("first")))
    first.start()
    assert begun.wait(10)
    waiting = [threading.Thread(target=make_once, args=(path, lambda name=name: make(name))) for name in "ab"]
    for thread in waiting:
        thread.start()
    waiting[0].join(0.2)
    assert waiting[0].is_alive()
    assert made == ["first"]
    finish.set()
    for thread in (first, *waiting):
        thread.join()
    assert made == ["first"]
    assert path.read_text() == "first"
