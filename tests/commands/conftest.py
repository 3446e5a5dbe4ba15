"""A project to work in, and the command line as a person calls it."""

import shutil
import sys

import pytest
from support.places import GRIDS

from harness import cli


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return an empty project with the shipped grids."""
    shutil.copytree(GRIDS, tmp_path / "grids")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def harness(monkeypatch, capsys):
    """Return a function that runs a command line and gives exit code, output and errors."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call
