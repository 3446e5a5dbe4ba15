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
from harness.jobs.notification import tell
from harness.slurm import client
from harness.slurm.private import own_folder, private_folder
from harness.slurm.sbatch_script import folders_of, script
from harness.slurm.snapshot import snapshot
from harness.store.status import training_statuses
from harness.store.store import Store
from harness.store.study import study_tables


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
    before = client.unfinished(client.named_jobs([name_of(store)], client.RESTART))
    needs = sorted({job.id.partition("_")[0] for job in client.unfinished(client.named_jobs(names, client.RESTART))})
    folder, code = own_folder(store), snapshot(grids)
    content = TypeAdapter(Ending).dump_json(Ending(store, reports, profile.notify, code.name))
    partition = jobs[0].resources.partition
    resources = profile.resources.model_copy(update={
        "gpus": 0, "nodes": 1, "processes": 1, "cpus": 1, "trainings_at_once": 1, "trainings_per_job": 1,
        **({"partition": partition} if partition else {}),
    })  # fmt: skip
    folders = [*folders_of(store, jobs), *([reports] if reports else [])]
    with private_folder(folder) as here:
        code.write(here, folder)
        last = script(profile, resources, name_of(store), 1, folder, code, __name__, content, folders)
        id = last.send(here, needs, "afterany")
    client.scancel({job.id for job in before if job.is_mine and job.state == "PENDING"})
    return id


def name_of(store: Store) -> str:
    """Return the name of the last job of a study."""
    return f"{store.study}-last"


def start(content: bytes, here: Path) -> None:
    """Make the report, and tell how the study stands by its files; here: the folder of the study's jobs."""
    ending = TypeAdapter(Ending).validate_json(content)
    report = _report(ending, here) if ending.reports else ""
    trainings = training_statuses(study_tables(ending.store), ending.store)
    left = [training for training in trainings if training.state != "done"]
    failed = [training for training in left if training.state in ("failed", "diverged")]
    words = f"{ending.store.study}: {len(trainings) - len(left)} of {len(trainings)} trainings are done"
    words += f", {len(failed)} failed; harness status {ending.store.study} tells why" if left else ""
    text = "; ".join(filter(None, (words, report)))
    print(text, flush=True)
    tell(ending.notify, "end" if left else "completion", ending.store.study, text)


def _report(ending: Ending, here: Path) -> str:
    """Make the report by the code that was sent; return where it is, or that there is none."""
    store = ending.store
    places = ["--results", str(store.results), "--scratch", str(store.scratch), "--reports", str(ending.reports)]
    command = [sys.executable, "-P", "-B", "-m", "harness.cli", "report", store.study, *places]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(here / ending.code)})
    return f"no report: it ended with {done.returncode}" if done.returncode else f"{ending.reports}/{store.study}"
