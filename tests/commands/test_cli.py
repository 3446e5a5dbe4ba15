"""The command line as a person meets it: plans at once, mistakes in one line with exit code 2, and nothing written."""

import errno
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.command_line import called, leaves

from harness import cli


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_an_unwritable_report_folder_is_one_line(project, harness):
    (project / "taken").write_text("")
    harness("plan", "grids/table2.yaml", "--scale", "smoke")
    code, _, err = harness("report", "smoke", "--reports", "taken/reports")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err == f"--reports taken/reports: {project / 'taken'} is a file; a folder is expected\n"


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


def test_help_imports_no_command():
    code = "import harness.cli, sys; print([name for name in sys.modules if name.startswith('harness.commands')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_is_listed_with_the_first_words_of_its_help(name):
    _, words = cli.COMMANDS[name]
    assert " ".join((called(cli.cli, name).help or "").split()).startswith(words.rstrip("."))


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
