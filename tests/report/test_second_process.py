"""Work beside a process: its result is the same wherever it is done, and what fails is told as if there were one."""

import os
import signal
import sys

import pytest

from harness.errors import UserError
from harness.report import second_process
from harness.report.second_process import beside


@pytest.fixture
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, and no torch: these works use nothing of it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(second_process.threading, "active_count", lambda: 1)


@pytest.mark.usefixtures("_two_cores")
def test_what_is_done_beside_is_done_here_where_its_process_dies_or_fails() -> None:
    here, large = os.getpid(), "x" * 1_000_000  # more than a pipe holds

    def killed() -> str:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return "here"

    def refused() -> None:
        raise UserError("grid.yaml: no such file")

    process, text, death, refusal = beside(os.getpid), beside(lambda: large), beside(killed), beside(refused)
    assert process() != here
    assert text() == large
    assert death() == "here"
    with pytest.raises(UserError, match=r"^grid\.yaml: no such file$"):
        refusal()


@pytest.mark.usefixtures("_two_cores")
@pytest.mark.parametrize("lacking", ["core", "call", "threads", "torch"])
def test_no_process_is_forked_without_a_core_or_beside_threads(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacking == "core":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    elif lacking == "call":
        monkeypatch.delattr(os, "sched_getaffinity")
    elif lacking == "threads":
        monkeypatch.setattr(second_process.threading, "active_count", lambda: 2)
    else:
        monkeypatch.setitem(sys.modules, "torch", second_process)
    assert beside(os.getpid)() == os.getpid()
