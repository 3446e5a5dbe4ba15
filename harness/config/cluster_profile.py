"""Cluster profiles, `clusters/*.yaml`: who runs the jobs, and what SLURM is to be told beside a run's resources."""

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from harness.config.named_files import PROFILES, named_file
from harness.config.settings.resources import Resources
from harness.config.settings.values import Count, Flag, Frozen, Hours, Line, Positive, Whole
from harness.config.site_options import (
    Container,
    Notify,
    SbatchOptions,
    SrunOptions,
    Word,
    at_home,
    command_words,
    final,
)  # fmt: skip
from harness.config.yaml_document import Layer, read_extended, validate
from harness.errors import UserError, nearest
from harness.plain_text import shown
from harness.plugins import Registry

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}
INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
NOTIFY = "HARNESS_NOTIFY"  # how a job is told `notify`
STAGE_DATA = "HARNESS_STAGE_DATA"  # how a job is told where to copy its data set to
MINUTE_EARLY = 60  # sbatch(1), --signal: "the signal may be sent up to 60 seconds earlier than specified"


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("the name of a variable is letters, digits and '_'")
    return name


def _final_variable(text: str) -> str:
    """Pass on a variable's value as `final` does.

    Raises:
        ValueError: as `final`; and where a shell would change it.
    """
    try:
        return final(text)
    except ValueError as error:
        raise ValueError(f"{error}, or a line of shell in setup: export NAME=...") from None


def _interfaces(names: str) -> str:
    """Refuse what gloo and NCCL do not both read as names of interfaces; NCCL's "^" and "=" are unknown to gloo."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}(,[A-Za-z0-9_.-]{1,15})*", names):
        raise ValueError("names of network interfaces, such as ib0, or ib0,ib1, are expected")
    return names


Variable = Annotated[str, AfterValidator(_variable)]
FinalText = Annotated[str, AfterValidator(_final_variable)]


class Partition(Frozen):
    """What a partition allows a job; what is not said is not limited."""

    hours: Hours | None = Field(None, description="longest time limit")
    nodes: Count | None = Field(None, description="most nodes of one job")
    gpus: Annotated[Whole, Field(ge=0)] | None = Field(None, description="GPUs on each node")
    cpus: Count | None = Field(None, description="cores on each node")
    memory_gb: Count | None = Field(None, description="memory of each node")
    account: Word | None = Field(None, description="whom its hours are charged to, where not the profile's account")
    qos: Word | None = Field(None, description="its quality of service, where not the profile's")
    constraint: Word | None = Field(None, description="features that a node of it must have, else the profile's")
    gpu_kind: Word | None = Field(None, description="kind of its GPUs, as the cluster calls it, else the profile's")
    gpu_hour_price: Positive | None = Field(None, description="price of its GPU-hour, where not the profile's")
    gpu: Word | None = Field(None, description="its GPU, whose speed submit assumes: A100, H100, H200, L40S, RTX4090")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are said, by the names of a run's resources."""
        return self.model_dump(include={"hours", "nodes", "gpus", "cpus", "memory_gb"}, exclude_none=True)

    def refusal(self, resources: Resources) -> str | None:
        """Return the first limit that a run's resources do not meet, in words; None where they fit."""
        per_process = {"cpus", "memory_gb"}  # and the limit is the node's
        for name, limit in self.limits.items():
            processes = resources.team * resources.at_once if name in per_process else 1
            request = getattr(resources, name) * processes
            if request > limit:
                return f"{request:g} {name} asked for, at most {limit:g}"
        return None


PER_PARTITION = ("account", "qos", "constraint", "gpu_kind")  # of which a job is sent with one value


class LauncherProfile(Frozen):
    """What every profile says; a plug-in's launcher adds fields of its own."""

    extends: str | None = Field(
        None, description="another profile, by name or path: keys that this file says count over its keys"
    )
    executor: str = Field(description="the launcher: slurm, local with jobs: trainings at once, or a plug-in's")
    notify: Notify | None = Field(None, description="who hears of failures, and of the end of a study")
    resources: Resources = Field(Resources(), description="the lowest layer of every run's resources")

    def price(self, resources: Resources) -> float | None:
        """Return the price of a GPU-hour; None where it is not said."""
        return None

    def gpu(self, resources: Resources) -> str | None:
        """Return the GPU whose speed is to be assumed for resources; None where it is not said."""
        return None


class LocalProfile(LauncherProfile):
    """This machine: a pool of worker processes."""

    executor: Literal["local"] = "local"
    jobs: Count = Field(1, description="trainings to run at once")


class SlurmProfile(LauncherProfile):
    """A SLURM cluster."""

    executor: Literal["slurm"] = Field("slurm", description="slurm, local with jobs: trainings at once, or a plug-in's")
    partitions: dict[Word, Partition] = Field({}, description="partitions by name; a job is sent to all that it fits")
    account: Word | None = Field(None, description="whom the hours are charged to")
    qos: Word | None = Field(None, description="quality of service")
    constraint: Word | None = Field(None, description="features that a node must have, such as a100|h100")
    gpus_by: Literal["gpus_per_node", "gpus_per_task", "gres"] = Field(
        "gpus_per_node", description="the option by which this cluster wants to be asked for GPUs"
    )
    gpu_kind: Word | None = Field(None, description="kind of GPU, as the cluster calls it")
    signal_seconds: Count = Field(120, description="time between the signal that a job must end, and its end")
    array_throttle: Count | None = Field(None, description="trainings of one array that may run at once")
    array_limit: Literal["auto"] | Count = Field("auto", description="largest array; auto: asked of scontrol")
    max_submitted: Count | None = Field(
        None, description="most jobs of yours that the queue may hold, beside what SLURM's accounting allows"
    )
    study_throttle: Count | None = Field(
        None, description="most jobs of one study that the queue may hold, waiting or running, whoever sent them"
    )
    exclude: tuple[Word, ...] = Field((), description="nodes that are not to be used")
    sbatch: SbatchOptions = Field(
        {}, description="other options of sbatch by their names, such as reservation, mail_user, wckey, licenses"
    )
    srun: SrunOptions = Field({}, description="other options of the srun that starts a job's processes")
    setup: tuple[str, ...] = Field((), description="lines of shell before the job")
    python: Word | None = Field(
        None, description="interpreter on the nodes: a path, or a name that setup puts on PATH; by default this one"
    )
    container: Container | None = Field(None, description="what the processes of a job run in")
    stage_data: Line | None = Field(
        None,
        description="folder on each node that a job copies its data set to and reads it from; $NAME is the job's",
    )
    environment: dict[Variable, FinalText] = Field(
        {}, description="variables of the job, as they are; only ~ is expanded, and no $NAME"
    )
    network_interface: Annotated[str, AfterValidator(_interfaces)] | None = Field(
        None, description="by which interfaces processes of several nodes reach each other, such as ib0, or ib0,ib1"
    )
    offline: Flag = Field(False, description="nodes reach no network: libraries are told to download nothing")
    gpu_hour_price: Positive | None = Field(None, description="price of a GPU-hour, in whatever currency")

    def check(self, resources: Resources) -> None:
        """Refuse resources that this cluster cannot give.

        Raises:
            UserError: the limit that is not met, or a time limit that the signal leaves no room in.
        """
        self.partition(resources)
        limit, needed = minutes(resources) * 60, self.signal_seconds + MINUTE_EARLY
        if limit <= needed:
            raise UserError(
                f"resources.hours: a time limit of {limit} s is too short for signal_seconds: {self.signal_seconds}; "
                f"SLURM may give the signal a minute early, so ask for more than {needed} s"
            )
        if self.gpus_by == "gpus_per_task" and resources.gpus % resources.team:
            raise UserError(
                f"resources.gpus: {resources.gpus} GPUs on a node cannot be shared evenly by {resources.team} "
                "processes, and this cluster's gpus_by is gpus_per_task"
            )

    def partition(self, resources: Resources) -> str | None:
        """Return the partitions that fit, joined by commas: SLURM takes the first that has room. None: the default.

        Raises:
            UserError: none fits, or the one that is asked for is not one of this cluster's.
        """
        return ",".join(self._fitting(resources)) or resources.partition

    def _fitting(self, resources: Resources) -> list[str]:
        """Return the first partition that fits, and those others that need no other account, QoS or kind of node.

        Raises:
            UserError: as `partition`.
        """
        if not self.partitions:
            return []
        names = resources.partition.split(",") if resources.partition else list(self.partitions)
        for name in names:
            if name not in self.partitions:
                raise UserError(f"resources.partition: no partition '{name}'{nearest(name, self.partitions)}")
        refusals = {name: self.partitions[name].refusal(resources) for name in names}
        fitting = [name for name, refusal in refusals.items() if refusal is None]
        if not fitting:
            reasons = "; ".join(f"{name}: {refusal}" for name, refusal in refusals.items())
            raise UserError(f"resources: no partition meets them ({reasons})")
        return [name for name in fitting if self._own(name) == self._own(fitting[0])]

    def _own(self, partition: str | None) -> dict[str, str | None]:
        """Return what jobs in a partition are sent with, of what partitions may say otherwise than the profile."""
        mine = self.partitions[partition] if partition else None
        return {key: getattr(mine, key, None) or getattr(self, key) for key in PER_PARTITION}

    def _own_of(self, resources: Resources) -> dict[str, str | None]:
        return self._own(next(iter(self._fitting(resources)), None))

    def charged_to(self, resources: Resources) -> tuple[str | None, str | None]:
        """Return the account and the QoS of jobs of some resources; None where the profile leaves it to SLURM."""
        own = self._own_of(resources)
        return own["account"], own["qos"]

    def price(self, resources: Resources) -> float | None:
        """Return the highest price of a GPU-hour in the partitions that resources fit; None where one is not said."""
        partitions = [self.partitions[name] for name in self._fitting(resources)]
        prices = [partition.gpu_hour_price or self.gpu_hour_price for partition in partitions] or [self.gpu_hour_price]
        return None if None in prices else max(price for price in prices if price)

    def gpu(self, resources: Resources) -> str | None:
        """Return the GPU whose speed is to be assumed for resources; None where no partition says one."""
        gpus = [self.partitions[name].gpu for name in self._fitting(resources)]
        return next(filter(None, gpus), None)

    def parameters(self, resources: Resources, name: str, count: int, folders: Collection[Path] = ()) -> dict[str, Any]:
        """Return what submitit is to write into the sbatch file of an array of `count` jobs.

        folders: those that a container must show.

        Raises:
            UserError: as `check`.
        """
        self.check(resources)
        interface = dict.fromkeys(INTERFACE_VARIABLES, self.network_interface) if self.network_interface else {}
        staging = {STAGE_DATA: self.stage_data} if self.stage_data else {}
        notify = {NOTIFY: self.notify.model_dump_json()} if self.notify else {}
        variables = (OFFLINE if self.offline else {}) | interface | staging | notify | self.environment
        exports = [
            f"export {key}={shlex.quote(at_home(f'environment: {key}', value))}" for key, value in variables.items()
        ]
        own = self._own_of(resources)
        parameters = {
            **{key: own[key] for key in ("account", "qos", "constraint")},
            "partition": self.partition(resources),
            "exclude": ",".join(self.exclude) or None,
            **self._gpus(resources),
            "job_name": name,
            "time": minutes(resources),
            "nodes": resources.nodes,
            "ntasks_per_node": resources.team,
            "cpus_per_task": resources.cpus * resources.at_once,
            "mem": f"{resources.memory_gb * resources.team * resources.at_once}GB",
            "signal_delay_s": self.signal_seconds,
            # One process that fails must not leave the others waiting. SLURM 22.05 to 23.02 forgets a job's cores per
            # task in its steps unless they are said again.
            "srun_args": [
                "--kill-on-bad-exit=1",
                f"--cpus-per-task={resources.cpus * resources.at_once}",
                *command_words(self.srun),
                *(self.container.srun_words(folders) if self.container else []),
            ],
            "array_parallelism": min(count, self.array_throttle or count),
            "stderr_to_stdout": True,
            # Requeued also where the cluster's JobRequeue is 0.
            "additional_parameters": {"requeue": True, **self.sbatch, **self._gres(resources)},
            "setup": [*self.setup, *exports],
        }
        return {key: value for key, value in parameters.items() if value is not None}

    def command(self, words: Sequence[str], resources: Resources, folders: Collection[Path]) -> list[str]:
        """Return the command by which a process of a job starts Python; words: what that is given."""
        python = at_home("python", self.python or ("python3" if self.container else sys.executable))
        inside = self.container.command_words(folders, resources.on_gpu) if self.container else []
        return [*inside, python, *words]

    def _gpus(self, resources: Resources) -> dict[str, str]:
        """Return the option by which GPUs are asked for, and what it says."""
        gpu_kind = self._own_of(resources)["gpu_kind"]
        count = resources.gpus // resources.team if self.gpus_by == "gpus_per_task" else resources.gpus
        words = filter(None, ("gpu" if self.gpus_by == "gres" else "", gpu_kind, str(count)))
        return {self.gpus_by: ":".join(words)} if resources.gpus else {}

    def _gres(self, resources: Resources) -> dict[str, str]:
        """Return the option gres where it says GPUs and something else."""
        both = [str(options["gres"]) for options in (self._gpus(resources), self.sbatch) if "gres" in options]
        return {"gres": ",".join(both)} if both else {}


# Each a `Launcher`, whose `Profile` reads the profiles that name it as their executor.
LAUNCHERS: Registry[Any] = Registry(
    "launchers",
    "launcher",
    {
        "slurm": "harness.slurm.slurm_launcher:SlurmLauncher",
        "local": "harness.launchers.local_launcher:LocalLauncher",
    },
)


def minutes(resources: Resources) -> int:
    """Return a run's time limit as SLURM is told it."""
    return max(1, round(resources.hours * 60))


def load_profile(name: str, folder: Path = PROFILES) -> tuple[LauncherProfile, Layer]:
    """Read the profile of a name, in `folder` or the package's; return it and its `resources`, the lowest layer.

    Raises:
        UserError: no such profile, or a mistake in it; file, line, key and nearest legal word.
    """
    message = f"--profile {name}: no file {folder / name}.yaml"
    document = read_extended(named_file(PROFILES, name, "--profile", message, folder), PROFILES)
    executor = document.content.get("executor")
    if executor not in list(LAUNCHERS):
        where, names = document.where("executor"), list(LAUNCHERS)
        legal = f"{', '.join(names[:-1])} or {names[-1]}"
        raise UserError(f"{where}: executor: {legal} is expected, found {shown(executor)}; it is never guessed")
    profile = validate(LAUNCHERS[executor].Profile, document.content, document.where)
    return profile, document.layer(document.content.get("resources", {}), "resources", prefix="resources.")
