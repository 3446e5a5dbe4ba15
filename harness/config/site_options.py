"""What a site needs in a cluster's profile beside resources: options of sbatch and srun, a container, who hears.

`sbatch: {reservation: ours, mail_user: me@lab}` is passed on as it is. The names are those that the installed program
prints for `--help`, plug-ins of the site among them, or else SLURM's.
"""

import re
import subprocess
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness.config.settings.values import Frozen, Line
from harness.errors import UserError, nearest
from harness.files import place
from harness.plain_text import check_text

# sbatch(1) and srun(1) of SLURM 22.05 to 24.11, without what the harness sets.
COMMON = """acctg-freq bb bbf begin cluster-constraint comment contiguous core-spec cores-per-socket cpu-freq deadline
delay-boot distribution exclusive extra extra-node-info gres gres-flags hint hold licenses mail-type mail-user mcs-label
mem-bind mincpus network nice no-kill nodefile nodelist overcommit oversubscribe power prefer priority profile propagate
quiet reboot reservation segment sockets-per-node spread-job stepmgr switches thread-spec threads-per-core time-min tmp
tres-bind tres-per-task use-min-nodes verbose wckey gpu-bind gpu-freq"""
PROGRAMS = {
    "sbatch": f"{COMMON} batch export export-file get-user-env ignore-pbs resv-ports",
    "srun": f"{COMMON} bcast bcast-exclude compress cpu-bind disable-status epilog exact export immediate label mpi "
    "overlap preserve-env prolog resv-ports send-libs slurmd-debug task-epilog task-prolog threads treewidth",
}
UNPRINTED = ("hint", "cpu-bind", "mem-bind")  # which --help leaves out where the node has no such plug-in

# What the harness says itself, and what says it in a profile or a grid.
RESOURCES = {
    "nodes": "resources.nodes", "time": "resources.hours", "partition": "partitions, or resources.partition",
    "cpus-per-task": "resources.cpus", "cpus-per-gpu": "resources.cpus", "mem": "resources.memory_gb",
    "mem-per-cpu": "resources.memory_gb", "mem-per-gpu": "resources.memory_gb", "ntasks": "resources.processes",
    "ntasks-per-node": "resources.processes", "ntasks-per-gpu": "resources.processes",
    "ntasks-per-core": "resources.processes", "ntasks-per-socket": "resources.processes",
    "gpus": "resources.gpus, with gpus_by and gpu_kind", "gpus-per-node": "resources.gpus, with gpus_by and gpu_kind",
    "gpus-per-task": "resources.gpus, with gpus_by and gpu_kind",
    "gpus-per-socket": "resources.gpus, with gpus_by and gpu_kind",
}  # fmt: skip
FIELDS = RESOURCES | {
    "account": "account", "qos": "qos", "constraint": "constraint", "exclude": "exclude", "signal": "signal_seconds",
    "array": "array_throttle, or array_limit", "container": "container", "container-image": "container",
    "container-mounts": "container",
}  # fmt: skip
NOT_TO_SAY = {
    "job-name", "output", "error", "input", "open-mode", "requeue", "no-requeue", "dependency", "kill-on-invalid-dep",
    "parsable", "wrap", "wait", "wait-all-nodes", "test-only", "help", "usage", "version", "uid", "gid", "chdir",
    "clusters", "het-group", "unbuffered", "kill-on-bad-exit", "multi-prog", "pty", "jobid", "no-allocate", "relative",
    "quit-on-interrupt", "wait-for-switch",
}  # fmt: skip


def final(text: str) -> str:
    """Pass on text that no shell is to change: it reaches SLURM, or a job's environment, between quotes.

    Raises:
        ValueError: it names a variable or a command of a shell.
    """
    if meant := re.search(r"\$(\w+|\{\w+[^}]*\}?|\()|`", text):
        raise ValueError(f"nothing puts a value for {meant[0]} here; write the value, or ~/ for your home")
    return text


@cache
def known_options(program: str) -> frozenset[str]:
    """Return the names of the options that a program of SLURM's has here; SLURM's own where it does not answer."""
    try:
        done = subprocess.run([program, "--help"], capture_output=True, text=True, errors="replace", timeout=20)
        printed = re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", done.stdout)
    except (OSError, subprocess.TimeoutExpired):
        printed = []
    return frozenset([*printed, *UNPRINTED] if printed else PROGRAMS[program].split())


def _option(program: str, key: str) -> str:
    """Return an option's name as SLURM writes it.

    Raises:
        ValueError: the harness sets it itself, or the program has none of that name.
    """
    name = key.replace("_", "-").removeprefix("--")
    if name in FIELDS:
        raise ValueError(f"the harness says --{name} itself; it is set by {FIELDS[name]}")
    if name in NOT_TO_SAY:
        raise ValueError(f"the harness says --{name} itself, and no other way is possible")
    legal = known_options(program) - FIELDS.keys() - NOT_TO_SAY
    if name not in legal:
        raise ValueError(f"{program} has no option --{name}{nearest(name, legal)}")
    return name


def _value(value: Any) -> str | Literal[True]:
    """Return what is said after "=": text in one line, or a list joined by commas; True where nothing is.

    Raises:
        ValueError: it is neither, or holds a control character, by which other options might begin.
    """
    if value is True:
        return True
    words = value if isinstance(value, list | tuple) else [value]
    if not words or any(isinstance(word, bool) or not isinstance(word, str | int | float) for word in words):
        raise ValueError("text, a number, a list of these, or true for an option without a value is expected")
    return final(check_text(",".join(str(word) for word in words)))


def _once(options: Any) -> Any:
    """Refuse an option that is said twice, by its two spellings.

    Raises:
        ValueError: which.
    """
    names = [str(key).replace("_", "-") for key in options] if isinstance(options, dict) else []
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"--{twice} is said twice")
    return options


def _no_gpu(options: dict[str, str | Literal[True]]) -> dict[str, str | Literal[True]]:
    """Refuse GPUs among other generic resources, for how many there are is a run's to say.

    Raises:
        ValueError: there are.
    """
    if re.search(r"(^|,)(gres[:/])?gpu\b", str(options.get("gres", ""))):
        raise ValueError(f"gres: the harness asks for GPUs itself; they are set by {FIELDS['gpus']}")
    return options


Value = Annotated[str | Literal[True], BeforeValidator(_value)]
SbatchName = Annotated[str, AfterValidator(lambda key: _option("sbatch", key))]
SrunName = Annotated[str, AfterValidator(lambda key: _option("srun", key))]
SbatchOptions = Annotated[dict[SbatchName, Value], BeforeValidator(_once), AfterValidator(_no_gpu)]
SrunOptions = Annotated[dict[SrunName, Value], BeforeValidator(_once), AfterValidator(_no_gpu)]


def command_words(options: dict[str, str | Literal[True]]) -> list[str]:
    """Return options as words of a command."""
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]


def at_home(name: str, value: str) -> str:
    """Return a value; one that begins with "~" is a place, which no shell expands within quotes."""
    return str(place(value, f"{name}:")) if value.startswith("~") else value


def _mount(words: str) -> str:
    """Pass on a folder to mount, and where.

    Raises:
        ValueError: it is not of the form /path or /path:/path/inside.
    """
    if not re.fullmatch(r"/[^:,]*(:/[^:,]*(:r[ow])?)?", words):
        raise ValueError("a folder to mount is written /path or /path:/path/inside")
    return words


Word = Annotated[Line, AfterValidator(final)]
Mount = Annotated[Word, AfterValidator(_mount)]


class Container(Frozen):
    """What the processes of a job run in; the harness's dependencies, Python among them, are in its image."""

    runtime: Literal["apptainer", "pyxis"] = Field(description="apptainer exec; or pyxis, by options of srun")
    image: Word = Field(description="a file, or what the runtime reads as an image: docker://…, user/image:tag")
    mounts: tuple[Mount, ...] = Field((), description="more folders of the node, as /path or /path:/path/inside")
    options: tuple[Word, ...] = Field((), description="more words of apptainer exec, or of srun for pyxis")

    def srun_words(self, folders: Collection[Path]) -> list[str]:
        """Return the options of srun that start its processes in the container."""
        if self.runtime != "pyxis":
            return []
        mounts = ",".join(mount if ":" in mount else f"{mount}:{mount}" for mount in self._mounts(folders))
        return [f"--container-image={self._image}", f"--container-mounts={mounts}", *self.options]

    def command_words(self, folders: Collection[Path], on_gpu: bool) -> list[str]:
        """Return the words before the command of a process."""
        if self.runtime != "apptainer":
            return []
        gpus = ["--nv"] if on_gpu else []
        return ["apptainer", "exec", *gpus, f"--bind={','.join(self._mounts(folders))}", *self.options, self._image]

    @property
    def _image(self) -> str:
        return at_home("container.image", self.image)

    def _mounts(self, folders: Collection[Path]) -> list[str]:
        """Return what is mounted: the folders that every job needs, and those of the profile.

        Raises:
            UserError: the name of one of the former holds what separates mounts.
        """
        if wrong := next((folder for folder in folders if re.search("[:,]", str(folder))), None):
            raise UserError(f"container: {wrong}: a folder with ':' or ',' in its name cannot be mounted")
        return list(dict.fromkeys([*map(str, folders), *self.mounts]))


Event = Literal["failure", "end", "completion"]


class Notify(Frozen):
    """Who hears of what. A secret, such as a webhook's address, lies in a file of the user's own, and nowhere else."""

    on: tuple[Event, ...] = Field(
        ("failure", "end", "completion"),
        description="failure: a training has failed; end: no job is left but work; completion: none is",
    )
    command: tuple[Word, ...] = Field(
        (),
        description="a program and its words, without a shell; {event}, {study}, {text} stand for these; text on stdin",
    )
    webhook: Word | None = Field(
        None, description='file of mode 0600 with the https address that is sent {"text": …, "event": …, "study": …}'
    )

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.command and not self.webhook:
            raise ValueError("a command or a webhook is needed")
        return self
