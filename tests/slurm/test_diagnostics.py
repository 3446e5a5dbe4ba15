"""What the doctor reads in the output of its own job, and what its processes find together."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.slurm.diagnostics import TRAP, _clocks, _lock, _permissions, setup_findings


def test_each_line_of_setup_that_failed_is_told_with_its_words_and_others_are_not():
    setup = [
        TRAP,
        "[ -e /nowhere ] && echo no",
        "echo well",
        "if true; then",
        "ls /nowhere",
        "fi",
        "false",
        "trap - ERR",
    ]
    shell = ["bash", "-c", "\n".join([*setup, "false", "echo the job"])]
    output = subprocess.run(shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    first, second = [finding.message for finding in setup_findings(output)]
    assert first.startswith("'ls /nowhere' failed with 2: ls: ")
    assert second == "'false' failed with 1"


class Alone:
    """A world whose other processes are of the test's making: what they say is given, and mine is put before it."""

    def __init__(self, *others: Any, leads: bool = True, rank: int = 0) -> None:
        self.others, self.leads, self.rank = iter(others), leads, rank

    def all_gather(self, mine: Any) -> list[Any]:
        return [mine, *next(self.others)]


def test_locks_clocks_and_permissions_that_do_not_hold_between_nodes_are_told(tmp_path: Path):
    assert "locked for all" in _lock(Alone([""], [False]), tmp_path / "lock")
    with pytest.raises(UserError, match="1 other processes locked what one had locked"):
        _lock(Alone([""], [False], leads=False), tmp_path / "lock")  # nobody else has locked it here
    assert "less than" in _clocks(Alone([None], [time.time()]))
    with pytest.raises(UserError, match="they are 60 s apart; the nodes need NTP"):
        _clocks(Alone([None], [time.time() - 60]))
    assert "on every node" in _permissions(Alone([("n2", [])]), tmp_path / "n1")
    with pytest.raises(UserError, match="on n2 mode 600 instead of mode 644"):
        _permissions(Alone([("n2", ["mode 600 instead of mode 644"])]), tmp_path / "n1")
