"""The sbatch file: what a dry run prints and what is sent are the very same text, made here and nowhere else."""

import hashlib
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.cluster_profile import SlurmProfile
from harness.config.settings import Resources
from harness.errors import UserError, user_error
from harness.jobs.job import Job
from harness.plain_text import check_text, shown
from harness.slurm import bootstrap, client
from harness.slurm.private import write_private
from harness.slurm.snapshot import Snapshot
from harness.store.store import Store

REQUEUE = "requeue-"  # and SLURM's id of a job: the file by which it asks to be queued again
BOOTSTRAP = Path(bootstrap.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Script:
    """What sbatch is given for one job, or an array of `count`: its text, and beside it the tasks that it names."""

    name: str
    tasks: bytes
    text: str

    def send(self, here: Path, needs: Sequence[str] = (), kind: str = "afterok") -> str:
        """Write both below `here` and hand the text to sbatch; return SLURM's id. needs, kind: as `client.sbatch`.

        Raises:
            UserError: as `client.sbatch`.
        """
        write_private(here / f"{self.name}.json", self.tasks)
        write_private(here / f"{self.name}.sh", self.text.encode())
        with client.own_environment():
            return client.sbatch(here / f"{self.name}.sh", needs, kind)


def script(
    profile: SlurmProfile, resources: Resources, name: str, count: int, folder: Path, code: Snapshot, module: str,
    tasks: bytes, folders: Collection[Path] = (),
) -> Script:  # fmt: skip
    """Make the sbatch file of `count` jobs that each start a module of the code in a folder, which knows its task.

    folders: others that a container must show them.

    Raises:
        UserError: the profile's cluster cannot give what a job asks, or a value is not one line of text.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    folders = [*folders, folder.parent]
    # submitit's own wckey is one that a cluster which enforces them does not know.
    parameters = {**profile.parameters(resources, name, count, folders), "wckey": None}
    if profile.container:
        parameters["teardown"] = _requeue(folder)
    _refuse_other_lines({**parameters, "--scratch": str(folder)})
    if "%" in str(folder):
        raise UserError(f"--scratch: {folder}: SLURM reads '%' in names of files as its own; choose another folder")
    arguments = [module, str(folder), code.name, code.sha256, f"{name}.json", hashlib.sha256(tasks).hexdigest()]
    command = shlex.join(profile.command(["-P", "-B", "-u", "-c", BOOTSTRAP, *arguments], resources, folders))
    text = _make_sbatch_string(command, folder, map_count=count if count > 1 else None, **parameters)
    return Script(name, tasks, text)


def folders_of(store: Store, jobs: Sequence[Job]) -> list[Path]:
    """Return the folders that jobs of a study, and their plug-ins, read and write; data and weights where there are."""
    named = {folder for job in jobs for folder in (job.data, job.weights, *(file.parent for file in job.plugins))}
    optional = sorted(folder for folder in named if folder.is_dir())
    return [store.results.absolute(), store.scratch.absolute(), *optional]


def _requeue(folder: Path) -> list[str]:
    """Return the lines of shell that queue a job again where a process of it has asked so by a file: in a container
    there may be no scontrol."""
    mark = f'{shlex.quote(str(folder))}/{REQUEUE}"$SLURM_JOB_ID"'
    return ["code=$?", f'if rm {mark} 2>/dev/null; then exec scontrol requeue "$SLURM_JOB_ID"; fi', "exit $code"]


def _refuse_other_lines(values: Mapping[str, Any]) -> None:
    """Refuse what would be a line of its own in a file that a shell reads; setup is lines of shell by its meaning.

    Raises:
        UserError: which, and what it holds.
    """
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            with user_error(f"{name}: {shown(text)} is no line of an sbatch file", kinds=ValueError):
                check_text(str(text), keep="\n\t" if name == "setup" else "")
