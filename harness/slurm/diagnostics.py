"""`harness doctor`: is this cluster ready? First what can be asked here, then what only a job on its nodes can tell.

That job is of the very kind that trainings are.
"""

import os
import platform
import re
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.settings import Resources
from harness.errors import UserError, nearest
from harness.files import read_json, tail, write_bytes, write_json
from harness.jobs.job import Job
from harness.jobs.machine_check import Finding, examine, examine_devices, examine_disk, this_machine
from harness.jobs.preflight import check
from harness.slurm import client
from harness.slurm.private import own_folder, private_folder
from harness.slurm.queue_status import output_path
from harness.slurm.sbatch_script import script
from harness.slurm.snapshot import snapshot
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.distributed import World

RENAMES = 200
FINDINGS = "findings.json"


@dataclass(frozen=True)
class Cluster:
    """What is examined."""

    profile: SlurmProfile
    store: Store
    jobs: tuple[Job, ...]

    @property
    def resources(self) -> Resources:
        """What the examining job asks for: as the trainings do, on two nodes where the profile has them."""
        resources = self.jobs[0].resources if self.jobs else self.profile.resources
        most = max((p.nodes or 2 for p in self.profile.partitions.values()), default=2)
        hours = min(resources.hours, max(0.1, (self.profile.signal_seconds + 120) / 3600))
        return resources.model_copy(update={"nodes": min(2, most), "hours": hours})


@dataclass(frozen=True)
class Examination:
    """What the job on the nodes is told; folder: see `examine_from_nodes`."""

    cluster: Cluster
    folder: Path


def examine_here(cluster: Cluster) -> Iterator[Finding]:
    """Yield what can be told without a job."""
    yield examine("SLURM", lambda: " ".join(client.ask("scontrol", "ping").split()))
    yield examine("largest array", client.array_limit)
    accounting = partial(client.ask, "sacct", "--noheader", "--allocations", "--format=JobID")
    yield examine("accounting", accounting, "it answers")
    for name, promised in cluster.profile.partitions.items():
        yield examine(f"partition {name}", partial(compare_partition, name, promised))
    fitting = partial(cluster.profile.partition, cluster.resources)
    yield examine("what a training asks", lambda: f"fits {fitting() or 'the default'}")
    for flag, folder in (("--results", cluster.store.results), ("--scratch", cluster.store.scratch)):
        yield examine_disk(flag, folder)


def compare_partition(name: str, promised: Partition) -> str:
    """Compare what a profile promises of a partition with what SLURM says of it.

    Raises:
        UserError: there is none, it is not up, or the profile promises more than it has.
    """
    lines = client.ask("sinfo", "--noheader", "--format=%R|%a|%l|%D|%c|%m|%G").splitlines()
    rows = [dict(zip("RalDcmG", line.split("|"), strict=True)) for line in lines]
    mine = [row for row in rows if row["R"] == name]
    if not mine:
        raise UserError(f"SLURM has no such partition{nearest(name, {row['R'] for row in rows})}")
    if all(row["a"] != "up" for row in mine):
        raise UserError(f"it is {mine[0]['a']}")
    limits = {
        "hours": _hours(mine[0]["l"]),
        "nodes": sum(int(row["D"]) for row in mine),
        "cpus": max(int(row["c"].strip("+")) for row in mine),
        "memory_gb": max(int(row["m"].strip("+")) for row in mine) / 1000,  # SLURM's G is 1024 MB; be generous
        "gpus": max(_gpus(row["G"]) for row in mine),
    }
    for key, promise in promised.model_dump(exclude_none=True).items():
        if promise > limits[key]:
            raise UserError(f"the profile says {key}: {promise:g}, SLURM says {limits[key]:g}")
    return ", ".join(f"{key} {limit:g}" for key, limit in limits.items())


def _hours(limit: str) -> float:
    """Read SLURM's days-hours:minutes:seconds."""
    if limit in ("infinite", "n/a"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return 24 * int(days or 0) + seconds / 3600


def _gpus(resources: str) -> int:
    return sum(int(count) for count in re.findall(r"gpu:(?:[^:,()]+:)?(\d+)", resources))


def examine_nodes(cluster: Cluster, grids: Collection[Path], seconds: float) -> Sequence[Finding]:
    """Send a job that looks from the nodes, and return what it finds.

    Raises:
        UserError: SLURM refuses it, or it is not done within `seconds`.
    """
    folder, token = own_folder(cluster.store), f"doctor-{uuid.uuid4().hex[:12]}"
    tasks = TypeAdapter(Examination).dump_json(Examination(cluster, cluster.store.scratch / "doctor" / token))
    code = snapshot(grids)
    with private_folder(folder) as here:
        code.write(here, folder)
        job = script(cluster.profile, cluster.resources, token, 1, folder, code, __name__, tasks).send(here)
        (here / job).mkdir(mode=0o700, exist_ok=True)
        result, log, begin = here / job / FINDINGS, output_path(cluster.store, job, folder.name), time.monotonic()
        while not result.is_file() and client.unfinished(client.named_jobs([token], client.RESTART)):
            if time.monotonic() - begin > seconds:
                client.scancel([job])
                raise UserError(f"the job {job} gave no answer in {seconds:g} s; raise --wait, or see {log}")
            time.sleep(1)
        if result.is_file():
            return TypeAdapter(list[Finding]).validate_json(result.read_bytes())
    words = [line for line in tail(log).split("\n") if line.strip()] or ["nothing"]
    raise UserError(f"the job {job} ended without an answer; its last words in {log}: {words[-1]}")


def start(content: bytes, here: Path) -> None:
    """Examine from the nodes, as a job, and write what is found beside its output; here: the folder of jobs."""
    os.environ["SUBMITIT_FOLDER"] = f"{here}/%j"
    examination = TypeAdapter(Examination).validate_json(content)
    findings = examine_from_nodes(examination.cluster, examination.folder)
    if os.environ.get("SLURM_PROCID", "0") == "0":
        path = here / os.environ["SLURM_JOB_ID"] / FINDINGS
        write_bytes(path, TypeAdapter(list[Finding]).dump_json(findings))


def examine_from_nodes(cluster: Cluster, folder: Path) -> list[Finding]:
    """Examine in a job, one task on each of its nodes or several; folder: shared by them, and not there yet."""
    from harness.engine.distributed import joined

    jobs = cluster.jobs
    needs = f"what {len(jobs)} trainings need is here" if jobs else "no grid was named: nothing to find"
    with joined() as world:
        gpus = min(1, cluster.resources.gpus)  # of a node's, SLURM may show each process its own alone
        here = list(examine_devices(this_machine(), gpus, "look at gpus_by in the profile, and at the driver"))
        here.append(examine("data and weights", partial(check, jobs), needs))
        nodes = world.all_gather((platform.node(), [finding.message for finding in here if finding.wrong]))
        together = [
            examine("all-reduce", partial(_reduce, world)),
            examine("shared folder", partial(_rename, world, folder)),
        ]
        wrong = [Finding("a node", False, f"{message} (on {host})") for host, messages in nodes for message in messages]
        hosts = Finding("nodes", True, ", ".join(host for host, _ in nodes))
        return [hosts, *together, *(finding for finding in here if not finding.wrong), *wrong]


def _reduce(world: "World") -> str:
    """Add up ones over all processes, as the gradients are."""
    import torch

    from harness.gpu import device

    start = time.perf_counter()
    total = world.mean({"one": torch.ones((), device=device()) * world.size})["one"]
    assert float(total) == world.size, f"the sum over {world.size} processes came out as {float(total)}"
    return f"{world.size} processes, {1000 * (time.perf_counter() - start):.0f} ms"


def _rename(world: "World", folder: Path) -> str:
    """Replace a file again and again in the leading process, while the others read it: never missing, never torn.

    Raises:
        UserError: it was, or one of them does not see it within a minute.
    """
    path, start = folder / "renamed.json", time.monotonic()
    if world.leads:
        write_json(path, [uuid.uuid4().hex] * 1000)
    while not path.is_file():
        if time.monotonic() - start > 60:
            raise UserError(f"{folder}: what one node writes another does not see; choose a shared --scratch")
        time.sleep(0.01)
    seen_after = time.monotonic() - start
    world.all_gather(None)  # all see it
    torn = 0
    for _ in range(RENAMES):
        if world.leads:
            write_json(path, [uuid.uuid4().hex] * 1000)
        else:
            content = read_json(path)
            torn += content is None or len(set(content)) != 1
    wrong, latest = sum(world.all_gather(torn)), max(world.all_gather(seen_after))
    if wrong:
        raise UserError(f"{folder}: {wrong} reads of a file that was being replaced found it missing or torn")
    return f"{RENAMES} files replaced under their readers, a new one seen after {latest:.2f} s"
