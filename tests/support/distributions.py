"""The package as people get it: an sdist of the checkout, and the wheel that is built from nothing but the sdist."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from support.places import ROOT

COPIED = ("harness", "docs", "grids", "clusters", "tests")  # and the files beside them


def _build(what: str, source: Path, out: Path) -> Path:
    """Build in a folder by the project's own backend, without a network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def _left_out(folder: str, names: list[str]) -> set[str]:
    beside = {path.name for path in ROOT.iterdir() if path.is_dir()} - set(COPIED)
    return beside if Path(folder) == ROOT else {"__pycache__"}


def sdist_and_wheel(folder: Path) -> tuple[Path, Path]:
    """Build both below a folder, from a copy of the checkout: a build leaves files beside what it builds."""
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=_left_out)
    sdist = _build("sdist", checkout, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return sdist, _build("wheel", source, folder)


def second_package(folder: Path) -> Path:
    """Build the wheel of a package that brings a method of its own: tests/support/second_package."""
    source = shutil.copytree(ROOT / "tests" / "support" / "second_package", folder / "second")
    return _build("wheel", source, folder)
