"""The code that a job runs is what was sent, wherever it starts and whatever happens to the tree."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

from harness.slurm.snapshot import snapshot


def test_a_copy_of_the_code_is_what_a_job_imports_wherever_it_starts(tmp_path, monkeypatch):
    grids = tmp_path / "ours"
    grids.mkdir()
    (grids / "untracked.yaml").write_text("a: 1")
    monkeypatch.chdir(ROOT)
    code = snapshot([grids], tmp_path / "logs")
    code.take()
    code.take()  # the second submission finds it
    (grids / "untracked.yaml").write_text("a: 2")
    assert (code.folder / "ours" / "untracked.yaml").read_text() == "a: 1"
    assert snapshot([grids], tmp_path / "logs").folder != code.folder
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [code.folder.name]
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, pathlib, harness\nfrom harness.jobs.recording import source\n"
        "print(harness.__file__, source(pathlib.Path(sys.argv[1])))\n"
    )
    command = f"{code.setup}; {sys.executable} {program} {tmp_path}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{code.folder}/harness/__init__.py")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert head in done.stdout


@pytest.mark.parametrize("folder", [".", "..", "elsewhere/../.."])
def test_a_grid_beside_ones_work_is_copied_alone_and_into_the_copy(tmp_path, monkeypatch, folder):
    work = tmp_path / "work"
    for name in ("table.yaml", "scales/smoke.yaml", "scratch/study/large", "notes.txt", "here/elsewhere/x"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("a: 1")
    monkeypatch.chdir(work / "here" if folder != "." else work)
    code = snapshot([Path(folder)], tmp_path / "logs")
    copied = {name for name in code.files if not name.startswith("harness/")}
    assert copied == {"work/table.yaml", "work/scales/smoke.yaml"}
    code.take()
    assert all((code.folder / name).is_file() for name in code.files)
