"""The command line as a person meets it: plans at once, mistakes in one line with exit code 2, and nothing written."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.places import ROOT

from harness import cli
from harness.commands import plan_run_submit as grid_commands
from harness.store.store import Store
from harness.store.study import study_tables


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return an empty project with the shipped grids."""
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
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


@pytest.fixture
def with_srun(tmp_path_factory, monkeypatch):
    """Put a program called srun on PATH: what is refused before SLURM is asked does not depend on the machine."""
    srun = tmp_path_factory.mktemp("bin") / "srun"
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_plan_prints_the_papers_runs(project, harness):
    before = files(project)
    code, out, _ = harness("plan", "grids/table2.yaml", "--scale", "imagenet256")
    assert code == 0
    assert "13 cells × 1 seed(s) = 13 runs of SiT-B/2, 400,000 steps of 256; 13 trainings" in re.sub(r"\s+", " ", out)
    assert out.count("to run") == 13
    assert files(project) == before


def test_plan_says_which_table_shares_a_run(project, harness):
    _, out, _ = harness("plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256")
    shared = [line.split("to run")[1].strip() for line in out.splitlines() if "to run" in line]
    assert sorted(name for name in shared if name) == ["table2", "table2", "table3", "table3"]  # baseline and default


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "grids/table2.yaml", "--scale", "smoke", "--set", "regularizer.tua=1"],
         "--set regularizer.tua=1: regularizer.tua: unknown key 'tua'; did you mean 'tau'?"),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--set", "regulariser.tau=1"],
         "--set regulariser.tau=1: regulariser: unknown key 'regulariser'; did you mean 'regularizer'?"),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--set", "regularizer.group=1"],
         "--set regularizer.group=1: regularizer.group: Input should be greater than or equal to 2, found 1"),
        (["run", "grids/table3.yaml", "--scale", "smoke", "--set", "regularizer.lambda=high"],
         "--set regularizer.lambda=high: regularizer.lambda: "),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--set", "regularizer.blocks=5"],
         "--set regularizer.blocks=5: regularizer.blocks: no block [5] in a network of 4 blocks"),
        (["submit", "grids/table2.yaml", "--scale", "cifar10"], "cifar10"),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--results", "taken/results"],
         "--results taken/results: cannot write in"),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--study", "../elsewhere"], "--study ../elsewhere: "),
        (["report", "nothing"], "results/nothing: no study here"),
        (["run", "grids/table2.yaml", "--scale", "smoke", "--set", "resources.processes=4"],
         "--set resources.processes=4: resources.processes: 4 processes cannot share a batch of 32 evenly"),
        (["data", "get", "digitz"], "did you mean 'digits'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_writes_nothing(project, harness, with_srun, words, told):
    (project / "taken").write_text("")
    before = files(project)
    code, _, err = harness(*words)
    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert files(project) == before


def test_a_mistake_in_the_file_is_told_with_its_line(project, harness):
    grid = project / "grids" / "table3.yaml"
    grid.write_text(grid.read_text().replace("3 of 12 (default): {regularizer.blocks: 3/12}",
                                             "3 of 12 (default): {regularizer.blocks: 13/12}"))  # fmt: skip
    line = grid.read_text().splitlines().index("    3 of 12 (default): {regularizer.blocks: 13/12}") + 1
    code, _, err = harness("run", "grids/table3.yaml", "--scale", "smoke")
    assert code == 2
    assert err.startswith(f"grids/table3.yaml:{line}: regularizer.blocks: no block ")


def test_submit_without_slurm_writes_nothing(project, harness, monkeypatch):
    monkeypatch.setenv("PATH", str(project))
    before = files(project)
    code, _, err = harness("submit", "grids/table2.yaml", "--scale", "smoke")
    assert (code, files(project)) == (2, before)
    assert "no SLURM here" in err


def test_an_unwritable_report_folder_is_one_line(project, harness):
    (project / "taken").write_text("")
    harness("plan", "grids/table2.yaml", "--scale", "smoke")
    code, _, err = harness("report", "smoke", "--reports", "taken/reports")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("--reports taken/reports: cannot write in")


def test_two_grids_of_one_name_are_refused(project, harness):
    shutil.copytree("grids", "mine")
    before = files(project)
    code, _, err = harness("run", "grids/table2.yaml", "mine/table2.yaml", "--scale", "smoke")
    assert (code, files(project)) == (2, before)
    assert err.startswith("mine/table2.yaml: grids/table2.yaml has the same name")
    assert harness("plan", "grids/table3.yaml", "grids/table3.yaml", "--scale", "smoke")[0] == 0


def test_a_study_keeps_the_seeds_that_it_had(project, harness, monkeypatch):
    monkeypatch.setattr(grid_commands, "_run_here", lambda *_: None)
    words = ("run", "grids/table2.yaml", "--scale", "smoke", "--set", "optimizer.learning_rate=0.001")
    for said, told in (([], ""), (["seeds=[2,1]"], "[0, 1, 2]"), ([], "[0, 1, 2]"), (["seeds=[0,1,2,3]"], "")):
        code, _, err = harness(*words, *(f"--set={word}" for word in said))
        assert code == 0
        assert (f"table2 keeps the seeds it had; they are {told} now" in err) == bool(told)
    (table,) = study_tables(Store(Path("results"), Path("scratch"), "smoke"))
    assert table.seeds == (0, 1, 2, 3)


def test_a_file_that_the_disk_refuses_is_one_line(project, harness, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "results/smoke/env.json")

    monkeypatch.setattr("harness.store.store.Store.grids", refuse)
    assert harness("status", "smoke") == (2, "", "results/smoke/env.json: Permission denied\n")


def test_a_missing_package_is_named(project, harness, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith(("harness.engine", "harness.measure"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = harness("run", "grids/table2.yaml", "--scale", "smoke")
    assert (code, err) == (2, "this command needs the package 'torch': pip install -e '.[train]'\n")


def test_help_of_the_installed_command():
    done = subprocess.run([sys.executable, "-m", "harness.cli", "--help"], capture_output=True, text=True, check=True)
    assert {"plan", "run", "submit", "status", "collect", "report", "data"} <= set(done.stdout.split())


def leaves(command: click.Command, *path: str) -> dict[tuple[str, ...], click.Command]:
    """Return every command by the words that call it."""
    if not isinstance(command, click.Group):
        return {path: command}
    return {key: one for name, inner in command.commands.items() for key, one in leaves(inner, *path, name).items()}


COMMANDS = leaves(cli.cli)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_examples_that_the_command_understands(path):
    command, words = COMMANDS[path], ("harness", *path)
    context = click.Context(command)
    lines = command.get_help(context).splitlines()
    examples = [shlex.split(line) for line in lines if f"{line} ".startswith(f"  {' '.join(words)} ")]
    assert examples
    for line in examples:
        _, left, _ = command.make_parser(context).parse_args(line[len(words) :])
        assert not [word for word in left or () if word.startswith("--")]
