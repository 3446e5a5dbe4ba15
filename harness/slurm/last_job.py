"""The last job of a study: when all others have ended, it makes the report and tells how the study ended."""

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from harness.config.cluster_profile import SlurmProfile
from harness.config.site_options import Notify
from harness.jobs.job import Job
from harness.jobs.notification import tell_end
from harness.launchers.arrays import folders_of
from harness.launchers.launcher import Parcel, QueuedJob, unfinished
from harness.launchers.private import own_folder, private_folder
from harness.launchers.snapshot import Snapshot, snapshot
from harness.slurm import client
from harness.slurm.sbatch_script import Script, script
from harness.store.store import Store


@dataclass(frozen=True)
class Ending:
    """What the last job is told; reports: the folder of the report that it makes, None for no report."""

    store: Store
    reports: Path | None
    notify: Notify | None
    code: str


def send_last(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path], reports: Path | None) -> str | None:
    """Send a job that begins when no other of the study is left, in the place of one that waits; return its id.

    None: nothing is asked of a last one.

    Raises:
        UserError: SLURM does not answer, or refuses it.
    """
    store = jobs[0].store
    if reports is None and profile.notify is None:
        return None
    names = {record.token for of_training in store.submissions().values() for record in of_training.values()}
    before = last_jobs(store)
    needs = sorted({job.id.partition("_")[0] for job in unfinished(client.named_jobs(names, client.RESTART))})
    folder, code = own_folder(store), snapshot(grids)
    with private_folder(folder) as here:
        code.write(here, folder)
        id = _last(jobs, profile, code, reports).send(here, needs, "afterany")
    client.scancel({job.id for job in before if job.is_mine and job.state == "PENDING"})
    return id


def last_text(jobs: Sequence[Job], profile: SlurmProfile, grids: Collection[Path], reports: Path | None) -> str:
    """Return the sbatch file that `send_last` would send; "" where it would send none."""
    return "" if reports is None and profile.notify is None else _last(jobs, profile, snapshot(grids), reports).text


def last_jobs(store: Store) -> list[QueuedJob]:
    """Return those that wait or run, whoever sent them.

    Raises:
        UserError: SLURM does not answer.
    """
    jobs = unfinished(client.named_jobs([name_of(store)], client.RESTART))
    return [job for job in jobs if job.name == name_of(store)]


def _last(jobs: Sequence[Job], profile: SlurmProfile, code: Snapshot, reports: Path | None) -> Script:
    store, partition = jobs[0].store, jobs[0].resources.partition
    content = TypeAdapter(Ending).dump_json(Ending(store, reports, profile.notify, code.name))
    resources = profile.resources.model_copy(update={
        "gpus": 0, "nodes": 1, "processes": 1, "cpus": 1, "trainings_at_once": 1, "trainings_per_job": 1,
        **({"partition": partition} if partition else {}),
    })  # fmt: skip
    folders = [*folders_of(store, jobs), *([reports] if reports else [])]
    parcel = Parcel(name_of(store), content, 1, resources, own_folder(store), code, tuple(folders))
    return script(profile, parcel, __name__)


def name_of(store: Store) -> str:
    """Return the name of the last job of a study."""
    return f"{store.study}-last"


def start(content: bytes, here: Path) -> None:
    """Make the report, and tell how the study stands by its files; here: the folder of the study's jobs."""
    ending = TypeAdapter(Ending).validate_json(content)
    report = _report(ending, here) if ending.reports else ""
    print(tell_end(ending.notify, ending.store, report), flush=True)


def _report(ending: Ending, here: Path) -> str:
    """Make the report by the code that was sent; return where it is, or that there is none."""
    store = ending.store
    places = ["--results", str(store.results), "--scratch", str(store.scratch), "--reports", str(ending.reports)]
    command = [sys.executable, "-P", "-B", "-m", "harness.cli", "report", store.study, *places]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(here / ending.code)})
    return f"no report: it ended with {done.returncode}" if done.returncode else f"{ending.reports}/{store.study}"
