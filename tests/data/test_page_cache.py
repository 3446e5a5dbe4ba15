"""Files behind memory maps are read once and in order, from where a process is told to, as far as memory holds them."""

import io
import threading
from pathlib import Path

import pytest

from harness.data import page_cache
from harness.data.page_cache import free_memory, pre_reading

SIZES = {"a": 100, "b": 30}


class Watched(io.BytesIO):
    """A file that notes which parts of it are read."""

    def __init__(self, path: Path, reads: list[tuple[str, int]]) -> None:
        super().__init__(bytes(SIZES[path.name]))
        self.name, self.reads = path.name, reads

    def readinto(self, buffer) -> int:
        self.reads.append((self.name, self.tell()))
        return super().readinto(buffer)


@pytest.mark.parametrize(
    ("share", "memory", "reads"),
    [
        (0.0, 1000, [("a", 0), ("a", 40), ("a", 80), ("b", 0)]),
        (0.5, 1000, [("a", 80), ("b", 0), ("a", 0), ("a", 40)]),
        (0.5, 100, [("a", 80), ("b", 0)]),  # more would only push out what was read before
    ],
)
def test_all_is_read_once_as_far_as_memory_holds_it(monkeypatch, share, memory, reads):
    monkeypatch.setattr(page_cache, "BLOCK", 40)
    monkeypatch.setattr(page_cache, "free_memory", lambda: memory)
    done: list[tuple[str, int]] = []
    with pre_reading([Path("a"), Path("b")], share, lambda path: Watched(path, done)) as thread:
        thread.join()
    assert done == reads


def test_it_ends_with_what_it_was_for(monkeypatch):
    monkeypatch.setattr(page_cache, "BLOCK", 1)
    begun, threads = threading.Event(), []

    class Endless(io.RawIOBase):
        def seek(self, at: int, whence: int = 0) -> int:
            return 10**4

        def readinto(self, buffer) -> int:
            begun.set()
            return 1

    def interrupted() -> None:
        with pre_reading([Path("a")], open_file=lambda _: Endless()) as thread:
            threads.append(thread)
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not threads[0].is_alive()


def test_a_file_that_cannot_be_read_is_left_to_its_map(tmp_path, capsys):
    with pre_reading([tmp_path / "missing"]) as thread:
        thread.join()
    assert capsys.readouterr() == ("", "")


def test_memory_is_the_systems_or_what_a_control_group_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(page_cache, "CGROUPS", tmp_path)
    page_cache.own_group().mkdir(parents=True, exist_ok=True)
    (page_cache.own_group() / "memory.max").write_text("max\n")
    unlimited = free_memory()
    assert unlimited > 1 << 20
    (tmp_path / "memory.max").write_text("4096\n")  # of the group around all
    assert free_memory() == 4096
