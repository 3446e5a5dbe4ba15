"""The command line as a person meets it: plans at once, mistakes in one line with exit code 2, and nothing written."""

import errno
import gc
import os
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


def refused(harness, monkeypatch, error: BaseException) -> tuple[int, str, str]:
    """Return what a command says in which something raises."""

    def refuse(*_):
        raise error

    monkeypatch.setattr("harness.store.store.Store.grids", refuse)
    return harness("status", "smoke")


@pytest.mark.parametrize(
    "name",
    ["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EISDIR", "ENOTDIR", "ENOENT", "EEXIST", "ENAMETOOLONG", "ELOOP",
     "EINVAL", "EIO", "ESTALE", "EMFILE", "ENXIO", "EFBIG", "EBUSY"],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(project, harness, monkeypatch, name):
    words = os.strerror(getattr(errno, name))
    error = OSError(getattr(errno, name), words, "results/a\n\x1b.json")
    line = rf"results/a\n\u001b.json: {words}"
    assert refused(harness, monkeypatch, error) == (2, "", f"{line}\n")


def test_other_refusals_are_one_line_too(project, harness, monkeypatch):
    end = "the output or a file cannot be written or read: "
    for error, words in (
        (OSError(errno.ENOSPC, "No space left on device"), f"{end}No space left on device"),
        (OSError("image file is\ntruncated"), f"{end}image file is truncated"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "a → b: Invalid cross-device link"),
    ):
        assert refused(harness, monkeypatch, error) == (2, "", f"{words}\n")
    name = os.fsdecode(b"caf\xe9.png")
    with pytest.raises(UnicodeEncodeError) as raised:
        f"a.png 0\n{name} 0\nb.png 0".encode()
    code, out, err = refused(harness, monkeypatch, raised.value)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(r"'caf\udce9.png 0': bytes that are not UTF-8")


def test_ctrl_c_is_no_mistake(project, harness, monkeypatch):
    assert refused(harness, monkeypatch, KeyboardInterrupt()) == (
        130, "", "\nStopped. Run the same command again to go on.\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "grids/table2.yaml"], "harness plan: Missing option '--scale'; 'harness plan --help' says"),
        (["plan", "--sacle", "x"], "harness plan: No such option '--sacle'"),
        (["run", "x", "--scale", "y", "--jobs", "a\nb"], "harness run: Invalid value for '--jobs': "),
        (["pln"], "harness: No such command 'pln'"),
    ],
)
def test_a_word_that_no_command_knows_is_one_line(project, harness, words, message):
    code, out, err = harness(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message)


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


def test_only_where_torch_is_not_loaded_cycles_are_left_at_the_end(monkeypatch):
    gc.unfreeze()  # what a command of another test left
    monkeypatch.setitem(sys.modules, "torch", object())
    cli._leave_cycles()
    assert gc.get_freeze_count() == 0
    monkeypatch.delitem(sys.modules, "torch")
    cli._leave_cycles()
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()
