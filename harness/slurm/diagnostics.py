"""`harness doctor`: is this cluster ready? First what can be asked here, then what only a job on its nodes can tell.

That job is of the very kind that trainings are.
"""

import fcntl
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

from harness.config.cluster_profile import SlurmProfile
from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.files import read_json, tail, write_bytes, write_json
from harness.jobs.job import Job
from harness.jobs.machine_check import Finding, examine, examine_devices, examine_disk, this_machine
from harness.jobs.preflight import check
from harness.jobs.staging import staged
from harness.launchers.arrays import folders_of
from harness.launchers.launcher import Parcel, unfinished
from harness.launchers.private import own_folder, private_folder
from harness.launchers.queue_status import output_path
from harness.launchers.snapshot import snapshot
from harness.slurm import client
from harness.slurm.limits import check_account, check_allowed, compare_partition
from harness.slurm.sbatch_script import script
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.distributed import World

RENAMES = 200
CLOCKS = 10.0  # seconds that two may be apart; what a training's last sign of life tells depends on them
# Told by bash of each command of the setup lines that fails, which by itself does not stop it.
TRAP = "trap 'echo \"setup failed with $? at: $BASH_COMMAND\"' ERR"
SETUP_FAILED = re.compile(r"^setup failed with (\d+) at: (.*)$", re.MULTILINE)
FINDINGS = "findings.json"


@dataclass(frozen=True)
class Cluster:
    """What is examined."""

    profile: SlurmProfile
    store: Store
    jobs: tuple[Job, ...]

    @property
    def asked(self) -> list[Resources]:
        """What the trainings ask for; of none what the profile gives them."""
        return list(dict.fromkeys(job.resources for job in self.jobs)) or [self.profile.resources]

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
    if cluster.profile.account or cluster.profile.qos:
        yield examine("account and QoS", partial(check_account, cluster.profile))
    for resources in cluster.asked:
        yield examine("what a training asks", partial(_check_asked, cluster, resources))
    for flag, folder in (("--results", cluster.store.results), ("--scratch", cluster.store.scratch)):
        yield examine_disk(flag, folder)


def _check_asked(cluster: Cluster, resources: Resources) -> str:
    """Ask whether SLURM would take a job that asks for this, and could start it.

    Raises:
        UserError: the profile, or SLURM, does not allow it.
    """
    check_allowed(cluster.profile, [resources])
    fits = f"fits {cluster.profile.partition(resources) or 'the default'}"
    folder, folders = own_folder(cluster.store), tuple(folders_of(cluster.store, cluster.jobs))
    job = script(cluster.profile, Parcel("doctor", b"", 1, resources, folder, snapshot([]), folders), __name__)
    client.would_take(job.text)
    return f"{fits}, and SLURM would take it"


def examine_nodes(cluster: Cluster, grids: Collection[Path], seconds: float) -> Sequence[Finding]:
    """Send a job that looks from the nodes, and return what it finds.

    Raises:
        UserError: SLURM refuses it, or it is not done within `seconds`.
    """
    folder, token = own_folder(cluster.store), f"doctor-{uuid.uuid4().hex[:12]}"
    profile = cluster.profile.model_copy(update={"setup": (TRAP, *cluster.profile.setup, "trap - ERR")})
    tasks = TypeAdapter(Examination).dump_json(Examination(cluster, cluster.store.scratch / "doctor" / token))
    code, folders = snapshot(grids), tuple(folders_of(cluster.store, cluster.jobs))
    with private_folder(folder) as here:
        code.write(here, folder)
        job = script(profile, Parcel(token, tasks, 1, cluster.resources, folder, code, folders), __name__).send(here)
        (here / job).mkdir(mode=0o700, exist_ok=True)
        result, log, begin = here / job / FINDINGS, output_path(cluster.store, job, folder.name), time.monotonic()
        while not result.is_file() and (mine := unfinished(client.named_jobs([token], client.RESTART))):
            if time.monotonic() - begin > seconds:
                client.scancel([job])
                waits = f"it is {mine[0].state}: {mine[0].reason}; raise --wait, or see {log}"
                raise UserError(f"the job {job} gave no answer in {seconds:g} s; {waits}")
            time.sleep(1)
        output = tail(log)
        if result.is_file():
            return [*setup_findings(output), *TypeAdapter(list[Finding]).validate_json(result.read_bytes())]
    words = [line for line in output.split("\n") if line.strip()] or ["nothing"]
    failed = "; ".join(finding.message for finding in setup_findings(output) if finding.wrong)
    ended = f"the job {job} ended without an answer; its last words in {log}: {words[-1]}"
    raise UserError("; ".join(filter(None, (ended, failed))))


def setup_findings(output: str) -> list[Finding]:
    """Return what the output of the job tells of the profile's lines of setup: each that failed, and its last words."""
    lines, findings = output.splitlines(), []
    for before, line in zip(["", *lines], lines, strict=False):
        if failed := SETUP_FAILED.match(line):
            words = f": {before}" if before and not SETUP_FAILED.match(before) else ""
            findings.append(Finding("setup", False, f"'{failed[2]}' failed with {failed[1]}{words}"))
    return findings


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
        if jobs and cluster.profile.stage_data:
            here.append(examine("staged data", lambda: staged(jobs[0], cluster.profile.stage_data).data))
        nodes = world.all_gather((platform.node(), [finding.message for finding in here if finding.wrong]))
        together = [
            examine("all-reduce", partial(_reduce, world)),
            examine("shared folder", partial(_rename, world, folder)),
            examine("locks", partial(_lock, world, folder / "lock")),
            examine("permissions", partial(_permissions, world, folder / platform.node())),
            examine("clocks", partial(_clocks, world)),
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


def _lock(world: "World", path: Path) -> str:
    """Lock a file in the leading process, and see whether the others can lock it as well.

    Raises:
        UserError: they can, or the filesystem knows no locks.
    """
    with path.open("a") as file:
        mine = "" if not world.leads else _try_lock(file.fileno())
        refused = [words for words in world.all_gather(mine) if words]  # now it is taken
        taken = not world.leads and not refused and not _try_lock(file.fileno())
        both = sum(world.all_gather(taken))
    if refused or both:
        wrong = refused[0] if refused else f"{both} other processes locked what one had locked"
        raise UserError(f"{path}: {wrong}; mount it with locks (Lustre: -o flock), or choose another --scratch")
    return "a file that one process locks is locked for all"


def _try_lock(file: int) -> str:
    """Lock an open file; return what hinders it, "" for nothing."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return str(error)
    return ""


def _permissions(world: "World", path: Path) -> str:
    """Compare owner, group and mode of a file that each process writes with what they should be.

    Raises:
        UserError: they are others, on some node.
    """
    path = path.with_name(f"{path.name}-{world.rank}")
    path.touch()
    wrote, folder, umask = path.stat(), path.parent.stat(), os.umask(0)
    os.umask(umask)
    group = folder.st_gid if folder.st_mode & 0o2000 else os.getegid()
    expected = _owner_group_mode(os.geteuid(), group, 0o666 & ~umask)
    mine = _owner_group_mode(wrote.st_uid, wrote.st_gid, wrote.st_mode & 0o777)
    words = [f"{got} instead of {want}" for got, want in zip(mine, expected, strict=True) if got != want]
    everywhere = world.all_gather((platform.node(), words))
    if wrong := [f"on {host} {', '.join(of_host)}" for host, of_host in everywhere if of_host]:
        raise UserError(f"{path.parent}: a new file has {'; '.join(wrong)}: others may not read it")
    return f"new files have {', '.join(mine)} on every node"


def _owner_group_mode(owner: int, group: int, mode: int) -> list[str]:
    return [f"owner {owner}", f"group {group}", f"mode {mode:o}"]


def _clocks(world: "World") -> str:
    """Compare the clocks of all processes, read when they have met.

    Raises:
        UserError: they are too far apart for what one tells to be true by the other's.
    """
    world.all_gather(None)
    clocks = world.all_gather(time.time())
    apart = max(clocks) - min(clocks)
    if apart > CLOCKS:
        raise UserError(f"they are {apart:.0f} s apart; the nodes need NTP, or states and times are wrong")
    return f"they are less than {max(apart, 0.1):.1f} s apart"
