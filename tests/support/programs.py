"""Programs of SLURM's, or others, as a test wants them to answer."""

import os
from pathlib import Path

import pytest


def write_program(folder: Path, name: str, *lines: str) -> None:
    """Write a shell script under a program's name."""
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
    """Put programs first on PATH that print these answers, whatever they are asked."""
    for name, lines in answers.items():
        write_program(folder, name, *([f"cat <<'END'\n{lines}\nEND"] if lines else []))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
