"""The sbatch file: what a dry run prints and what is sent are the very same text, made here and nowhere else."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.cluster_profile import SlurmProfile
from harness.errors import UserError, user_error
from harness.launchers.launcher import Parcel
from harness.launchers.private import write_private
from harness.plain_text import check_text, shown
from harness.slurm import client

REQUEUE = "requeue-"  # and SLURM's id of a job: the file by which it asks to be queued again


@dataclass(frozen=True)
class Script:
    """What sbatch is given for a parcel: its text, beside the tasks that it names."""

    parcel: Parcel
    text: str

    def send(self, here: Path, needs: Sequence[str] = (), kind: str = "afterok") -> str:
        """Write both below `here` and hand the text to sbatch; return SLURM's id. needs, kind: as `client.sbatch`.

        Raises:
            UserError: as `client.sbatch`.
        """
        self.parcel.write(here)
        path = here / f"{self.parcel.name}.sh"
        write_private(path, self.text.encode())
        with client.own_environment():
            return client.sbatch(path, needs, kind)


def script(profile: SlurmProfile, parcel: Parcel, module: str) -> Script:
    """Make the sbatch file of jobs that each start a module of the code, which knows its task.

    Raises:
        UserError: the profile's cluster cannot give what a job asks, or a value is not one line of text.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    folder, folders = parcel.folder, [*parcel.folders, parcel.folder.parent]
    # submitit's own wckey is one that a cluster which enforces them does not know.
    parameters = profile.parameters(parcel.resources, parcel.name, parcel.count, folders) | {"wckey": None}
    if profile.container:
        parameters["teardown"] = _requeue(folder)
    _refuse_other_lines({**parameters, "--scratch": str(folder)})
    if "%" in str(folder):
        raise UserError(f"--scratch: {folder}: SLURM reads '%' in names of files as its own; choose another folder")
    command = shlex.join(profile.command(parcel.words(module), parcel.resources, folders))
    text = _make_sbatch_string(command, folder, map_count=parcel.count if parcel.count > 1 else None, **parameters)
    return Script(parcel, text)


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
