"""A job starts what was sent, or nothing: whatever lies there instead, whoever put it there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.programs import write_program

from harness.config.cluster_profile import SlurmProfile
from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.launchers.launcher import Parcel
from harness.launchers.private import private_folder
from harness.launchers.snapshot import Snapshot
from harness.slurm.sbatch_script import script

WORK = b"import work.part\ndef start(content, here): print('works:', content.decode(), here.joinpath('lock').exists())"
CODE = Snapshot({"work/__init__.py": WORK, "work/part.py": b"", "source.json": b"{}"})
EVIL = "open('evil', 'w')\n"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of jobs, in which the script and its code lie, and an srun that starts what it is told."""
    write_program(
        tmp_path, "srun", 'while [ "${1#-}" != "$1" ]; do [ "$1" = --output ] && shift; shift; done', 'exec "$@"'
    )
    write_program(tmp_path, "sbatch", "echo job 7")
    path = tmp_path / "slurm"
    with private_folder(path) as here, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        CODE.write(here, path)
        sent = script(SlurmProfile(), Parcel("study-1", b"tasks", 1, Resources(), path, CODE), "work")
        assert sent.send(here) == "7"
    shutil.copy(path / "study-1.sh", tmp_path / "in-slurms-hands.sh")
    return path


def job(folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what SLURM does: start the script that it was given, in the folder that it was sent from."""
    environment = os.environ | {"PATH": f"{folder.parent}:{os.environ['PATH']}"}
    command = ["bash", str(folder.parent / "in-slurms-hands.sh")]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, env=environment)


def swap(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    shutil.copytree(folder.with_name("away"), folder)
    add("work/part.py")(folder)
    (folder / "study-1.json").write_bytes(b"others")


def add(name: str, text: str = EVIL):
    def edit(folder: Path) -> None:
        path = folder / CODE.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return edit


def link(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.symlink_to("away")


def give_away(name: str):
    return lambda folder: os.chown(folder / name, 65534, 65534)


EDITS = {
    "code": add("work/part.py"),
    "one more module": add("numpy.py"),
    "compiled code": add("work/__pycache__/part.cpython-311.pyc"),
    "one file less": lambda folder: (folder / CODE.name / "source.json").unlink(),
    "all of it": swap,
    "a link": link,
    "a link in it": lambda folder: (folder / CODE.name / "os.py").symlink_to("/etc/passwd"),
    "tasks": lambda folder: (folder / "study-1.json").write_bytes(b"others"),
    "written by others": lambda folder: folder.chmod(0o777),
    "a file written by others": lambda folder: (folder / CODE.name / "work/part.py").chmod(0o666),
    "nothing": lambda folder: shutil.rmtree(folder / CODE.name),
}
GIVEN = {"": "", "code": CODE.name, "part": f"{CODE.name}/work/part.py", "tasks": "study-1.json"}


def test_what_was_sent_runs_under_a_handle_of_its_folder(folder):
    (folder / "lock").touch()
    (folder.parent / "work.py").write_text(EVIL)  # in the folder that it is started in
    done = job(folder)
    assert (done.stdout, done.stderr, done.returncode) == ("works: tasks True\n", "", 0)


@pytest.mark.parametrize(
    "edit", [*EDITS.values(), *(pytest.param(give_away(name), marks=ROOT_ONLY) for name in GIVEN.values())],
    ids=[*EDITS, *(f"{name or 'folder'} of another" for name in GIVEN)],
)  # fmt: skip
def test_nothing_runs_where_anything_else_lies_there(folder, edit):
    edit(folder)
    done = job(folder)
    assert done.stderr.startswith("refused, and nothing of it was run: ")
    assert done.stderr.count("\n") == 1
    assert (done.stdout, done.returncode) == ("", 1)
    assert not (folder.parent / "evil").exists()


def test_what_is_replaced_after_the_check_is_not_imported(folder):
    """Whoever may write beside the folder renames it while the job runs, before it imports a part."""
    late = b"def start(content, here):\n import pathlib, shutil\n f = pathlib.Path('slurm')\n f.rename('old')\n"
    late += b" shutil.copytree('old', f)\n for p in f.rglob('part.py'): p.write_text('print(6)')\n import work.part\n"
    code = Snapshot({"work/__init__.py": late, "work/part.py": b"print('ours')"})
    with private_folder(folder) as here:
        code.write(here, folder)
    text = script(SlurmProfile(), Parcel("study-1", b"tasks", 1, Resources(), folder, code), "work").text
    (folder.parent / "in-slurms-hands.sh").write_text(text)
    assert job(folder).stdout == "ours\n"


@pytest.mark.parametrize("edit", [add("work/part.py"), add("sitecustomize.py")])
def test_a_copy_that_is_there_is_compared_and_never_taken_because_it_is_there(folder, edit):
    edit(folder)
    with (
        private_folder(folder) as here,
        pytest.raises(UserError, match=f"does not hold what would be sent; remove it: rm -r {folder}/{CODE.name}"),
    ):
        CODE.write(here, folder)
