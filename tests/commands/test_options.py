"""Every option, argument and variable that names a place is checked before its command does anything."""

import os
from pathlib import Path

import click
import pytest
from support.command_line import leaves

from harness import cli
from harness.commands.options import EXISTING, Place, ReferenceWords, check_apart
from harness.config import imported_weights
from harness.config.cluster_profile import SlurmProfile
from harness.config.settings import Resources
from harness.errors import UserError

LONG = "a" * 256  # bytes: ext4, XFS and Btrfs take 255
COMMANDS = leaves(cli.cli)
PLACES = {
    (*path, str(param.name)): (command, param)
    for path, command in COMMANDS.items() for param in command.params if isinstance(param.type, Place | ReferenceWords)
}  # fmt: skip
# What nobody can mean, and where no file can be; each with what the refusal must say.
NOWHERE = {
    "": "an empty name",
    "  ": "an empty name",
    "$HOME/x": "no shell has put a value for $HOME; write its value, or ~/ for your home",
    "${DATA}": "no shell has put a value for ${DATA}",
    os.fsdecode(b"caf\xe9"): r"caf\udce9: control characters, or bytes that are not UTF-8",
    "a\nb": r"a\u000ab: control characters",
    "~no-such-user/x": "no such user",
    LONG: "File name too long",
    f"{LONG}/x": "File name too long",
}
UNFIT = {
    "folder": {"file": "is a file; a folder is expected", "file/x": "is a file; a folder is expected",
               "circle": "is a link that leads nowhere", "lost": "is a link that leads nowhere"},
    "output": {"folder": "is a folder; the name of a file in it is expected", "/dev/null": "is a device",
               "file/x": "Not a directory", "/proc/none/x": "cannot write in /proc"},
    "new": {"file": "exists already", "folder": "exists already", "lost": "exists already",
            "file/x": "Not a directory"},
    "any": {"pipe": "is a device or a pipe", "/dev/null": "is a device or a pipe"},
    "existing": {"pipe": "is a device or a pipe", "missing": "no such file", "file/x": "no such file",
                 "circle": "no such file"},
}  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("HARNESS_")]:
        monkeypatch.delenv(variable)
    Path("file").write_text("")
    Path("folder").mkdir()
    Path("circle").symlink_to("circle")
    os.mkfifo("pipe")
    Path("lost").symlink_to("nowhere")
    return tmp_path


def words_of(command: click.Command, target: click.Parameter | None = None, value: str = "") -> list[str]:
    """Return what calls a command with this value, and with anything where it needs more."""
    options, arguments = [], []
    for param in command.params:
        if param is not target and not param.required:
            continue
        words = value if param is target else "file" if param.type is EXISTING else "unmade"
        if isinstance(param, click.Option):
            options += [f"{param.opts[0]}={words}"]
        else:
            arguments += [words]
    return [*options, "--", *arguments]


@pytest.mark.parametrize("name", PLACES, ids=" ".join)
def test_a_place_that_cannot_be_is_refused_before_anything_is_done(name, places, harness, monkeypatch):
    command, param = PLACES[name]
    monkeypatch.setattr(command, "callback", lambda **_: pytest.fail("the command has begun"))
    flag = param.opts[0] if isinstance(param, click.Option) else str(param.name).upper()
    before = sorted(places.rglob("*"))
    for value, message in (NOWHERE | UNFIT[getattr(param.type, "kind", "any")]).items():
        code, out, err = harness(*name[:-1], *words_of(command, param, value))
        assert (code, out, err.count("\n")) == (2, "", 1), (value, err)
        assert err.startswith(flag)
        assert message in err
    assert sorted(places.rglob("*")) == before


@pytest.mark.parametrize("name", PLACES, ids=" ".join)
def test_a_tilde_is_the_home_in_every_option(name, places, monkeypatch):
    command, param = PLACES[name]
    monkeypatch.setenv("HOME", str(places / "home"))
    (places / "home").mkdir()
    if param.type is EXISTING:
        (places / "home" / "a b").touch()
    context = command.make_context("it", words_of(command, param, "~/a b"))
    value = context.params[str(param.name)]
    assert str(value[0] if isinstance(value, tuple) else value) == f"{places}/home/a b"


@pytest.mark.parametrize("name", [name for name, (_, param) in PLACES.items() if param.envvar], ids=" ".join)
def test_a_variable_is_checked_as_its_option_is(name, places, harness, monkeypatch):
    command, param = PLACES[name]
    monkeypatch.setattr(command, "callback", lambda **_: pytest.fail("the command has begun"))
    monkeypatch.setenv(str(param.envvar), "file")
    assert harness(*name[:-1], *words_of(command)) == (2, "", f"{param.envvar} file: is a file; a folder is expected\n")


def test_imported_weights_and_the_variables_of_a_job_are_at_home_too(places, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("HARNESS_WEIGHTS", "~/weights of mine")
    assert imported_weights.folder() == Path("/home/someone/weights of mine")
    monkeypatch.setenv("HARNESS_WEIGHTS", "")
    assert imported_weights.folder() == Path("weights")
    monkeypatch.setenv("HARNESS_WEIGHTS", "a\nb")
    with pytest.raises(UserError, match=r"HARNESS_WEIGHTS a\\u000ab: control characters"):
        imported_weights.folder()
    profile = SlurmProfile(environment={"HF_HOME": "~/a b", "NCCL_DEBUG": "WARN"})
    setup = profile.parameters(Resources(), "name", 1)["setup"]
    assert setup == ["export HF_HOME='/home/someone/a b'", "export NCCL_DEBUG=WARN"]


def test_nothing_is_written_over_what_is_read_or_written_already(places):
    check_apart({"--json": Path("a"), "--statistics": Path("b"), "--nearest": None}, {"SAMPLES": Path("c")})
    with pytest.raises(UserError, match=r"--statistics folder/../a: --json names the same file"):
        check_apart({"--json": Path("a"), "--statistics": Path("folder/../a")}, {})
    with pytest.raises(UserError, match=r"--statistics ref.npz: --reference names the same file"):
        check_apart({"--statistics": Path("ref.npz")}, {"--reference": Path("ref.npz")})
