"""Every option, argument and variable that names a place is checked before its command does anything."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.command_line import leaves
from support.places import ROOT

from harness import cli
from harness.commands.options import EXISTING, PLAIN, Place, ReferenceWords, check_apart
from harness.config import imported_weights
from harness.config.cluster_profile import SlurmProfile
from harness.config.settings.resources import Resources
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
    "a\nb": r"a\nb: control characters",
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
    "plain": {"pipe": "is a device or a pipe; a file is expected", "missing": "no such file", "file/x": "no such file",
              "folder": "is a folder; the name of a file in it is expected", "circle": "no such file"},
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
        words = value if param is target else "file" if param.type in (EXISTING, PLAIN) else "unmade"
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
    if param.type in (EXISTING, PLAIN):
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
    with pytest.raises(UserError, match=r"HARNESS_WEIGHTS a\\nb: control characters"):
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


def test_a_profile_is_named_by_the_option_or_variable_that_says_it(project, harness, monkeypatch):
    (project / "clusters").mkdir()
    (project / "clusters" / "ours.yaml").write_text("executor: slurm\n")
    words = ("submit", "grids/table3.yaml", "--scale", "smoke", "--dry-run")
    missing = " our: no file clusters/our.yaml; did you mean 'ours'?\n"
    assert harness(*words, "--profile", "our")[::2] == (2, f"--profile{missing}")
    monkeypatch.setenv("HARNESS_PROFILE", "our")
    assert harness(*words)[::2] == (2, f"HARNESS_PROFILE{missing}")
    monkeypatch.setenv("HARNESS_PROFILE", "../ours")
    assert harness(*words)[2].startswith("HARNESS_PROFILE ../ours: a name is ")
    monkeypatch.setenv("HARNESS_PROFILE", "ours")
    assert harness(*words)[0] == 0


@pytest.mark.parametrize(("option", "suffix"), [("--nearest", ".png"), ("--statistics", ".npz")])
def test_what_is_written_has_the_suffix_of_its_format(places, harness, option, suffix):
    code, _, err = harness("measure", "file", "--reference", "cifar10:test", option, "n.jpg")
    assert (code, err) == (
        2,
        f"{option} n.jpg: a name that ends in {suffix} is expected, for that is what is written\n",
    )


LEFT = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("words", [("probe", "x"), ("measure-study", "x")])
def test_a_command_that_shares_no_work_says_so_to_a_launcher(places, harness, monkeypatch, words):
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    code, _, err = harness(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"harness {words[0]}: it shares no work, and each of the WORLD_SIZE=2 processes would do all")


STALE = """
import sys
from harness.cli import main
sys.argv = ["harness", "measure", "file", "--reference", "cifar10:test"]
try:
    main()
finally:
    assert "torch" not in sys.modules, "torch was loaded first"
"""


def test_what_a_launcher_left_is_told_before_torch_is_loaded(places):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RANK": "3", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", STALE], env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("RANK='3' WORLD_SIZE='2' in the environment, and no LOCAL_RANK")
