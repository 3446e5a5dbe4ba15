"""`harness doctor`: is this cluster ready? First what can be asked here, then what only a job on its nodes can tell."""

import re
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.settings import Resources
from harness.errors import UserError, nearest
from harness.files import check_writable, read_json
from harness.jobs.job import Job
from harness.slurm.client import array_limit, ask, cancel, queued
from harness.slurm.environment import own_environment
from harness.slurm.examination import Examination, Finding, look
from harness.slurm.snapshot import snapshot


@dataclass(frozen=True)
class Cluster:
    """What is examined."""

    profile: SlurmProfile
    results: Path
    scratch: Path
    jobs: tuple[Job, ...]

    @property
    def resources(self) -> Resources:
        """What the examining job asks for: as the trainings do, on two nodes where the profile has them."""
        asked = self.jobs[0].resources if self.jobs else self.profile.resources
        most = max((p.nodes or 2 for p in self.profile.partitions.values()), default=2)
        hours = min(asked.hours, max(0.1, (self.profile.signal_seconds + 120) / 3600))
        return asked.model_copy(update={"nodes": min(2, most), "hours": hours})


def examine_here(cluster: Cluster) -> Iterator[Finding]:
    """Yield what can be told without a job."""
    yield look("SLURM", lambda: " ".join(ask("scontrol", "ping").split()))
    yield look("largest array", lambda: f"{array_limit()}")
    yield look("accounting", lambda: ask("sacct", "--noheader", "--allocations", "--format=JobID") and "it answers")
    for name, promised in cluster.profile.partitions.items():
        yield look(f"partition {name}", partial(_compare, name, promised))
    yield look("what a training asks", lambda: f"fits {cluster.profile.partition(cluster.resources) or 'the default'}")
    for flag, folder in (("--results", cluster.results), ("--scratch", cluster.scratch)):
        yield look(flag, partial(_write, flag, folder))


def _write(flag: str, folder: Path) -> str:
    check_writable(flag, folder)
    return f"{folder} can be written"


def _compare(name: str, promised: Partition) -> str:
    """Compare what a profile promises of a partition with what SLURM says of it.

    Raises:
        UserError: there is none, it is not up, or the profile promises more than it has.
    """
    lines = ask("sinfo", "--noheader", "--format=%R|%a|%l|%D|%c|%m|%G").splitlines()
    rows = [dict(zip("RalDcmG", line.split("|"), strict=True)) for line in lines]
    mine = [row for row in rows if row["R"] == name]
    if not mine:
        raise UserError(f"SLURM has no such partition{nearest(name, {row['R'] for row in rows})}")
    if all(row["a"] != "up" for row in mine):
        raise UserError(f"it is {mine[0]['a']}")
    has = {
        "hours": _hours(mine[0]["l"]),
        "nodes": sum(int(row["D"]) for row in mine),
        "cpus": max(int(row["c"].strip("+")) for row in mine),
        "memory_gb": max(int(row["m"].strip("+")) for row in mine) / 1000,  # SLURM's G is 1024 MB; be generous
        "gpus": max(_gpus(row["G"]) for row in mine),
    }
    for what, value in has.items():
        said = getattr(promised, what)
        if said is not None and said > value:
            raise UserError(f"the profile says {what}: {said:g}, SLURM says {value:g}")
    return ", ".join(f"{what} {value:g}" for what, value in has.items())


def _hours(limit: str) -> float:
    """Read SLURM's days-hours:minutes:seconds."""
    if limit in ("infinite", "n/a"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return 24 * int(days or 0) + hours + minutes / 60 + seconds / 3600


def _gpus(resources: str) -> int:
    return sum(int(count) for count in re.findall(r"gpu:(?:[^:,()]+:)?(\d+)", resources))


def examine_nodes(cluster: Cluster, grids: Collection[Path], seconds: float) -> Sequence[Finding]:
    """Send a job that looks from the nodes, and return what it finds.

    Raises:
        UserError: SLURM refuses it, or it is not done within `seconds`.
    """
    from submitit import SlurmExecutor

    logs = cluster.scratch / "doctor"
    token = f"doctor-{uuid.uuid4().hex[:12]}"
    code = snapshot(grids, logs)
    parameters = cluster.profile.parameters(cluster.resources, token, 1)
    parameters["setup"] = [*parameters["setup"], code.setup]
    code.take()
    examination = Examination(logs / token, cluster.resources.gpus, cluster.jobs)
    executor = SlurmExecutor(folder=logs / "%j")
    executor.update_parameters(**parameters)
    with own_environment():
        job = executor.submit(examination)
    log = logs / str(job.job_id) / f"{job.job_id}_0_log.out"
    start = time.monotonic()
    while not examination.path.is_file():
        gone = all(held.name != token for held in queued())
        if gone and not examination.path.is_file():
            raise UserError(f"the job {job.job_id} ended without an answer; its last words in {log}: {_last(log)}")
        if time.monotonic() - start > seconds:
            cancel([str(job.job_id)])
            raise UserError(f"the job {job.job_id} gave no answer in {seconds:g} s; raise --wait, or see {log}")
        time.sleep(1)
    found = read_json(examination.path)
    nodes = Finding("nodes", True, ", ".join(found["hosts"]))
    return [nodes, *(Finding(**finding) for finding in found["findings"])]


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "nothing")
