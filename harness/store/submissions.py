"""What was sent to SLURM for a study, beside its checkpoints; written before it is sent.

scratch/<study>/<train_id>/submission.json   `Submission`: which job of SLURM's makes this training
scratch/<study>/slurm/sent.json              `SubmitOptions`: the profile and the data folder of the last submit
scratch/<study>/slurm/                       submitit's files, the jobs' output (<job>/<job>_0_log.out), and their code
"""

from pathlib import Path

from harness.store.records import Record
from harness.store.store import IDENTITY, Store


class Submission(Record):
    """One training's. token: the name of its job, chosen before SLURM gave it an id. time: in seconds since 1970."""

    FILE = "submission.json"

    token: str
    index: int | None
    evaluations: tuple[str, ...]
    time: float
    job: str | None = None
    cancelled: bool = False

    @property
    def place(self) -> tuple[str, int | None]:
        """Where SLURM's queue has its job, also where nobody lived to write down its id."""
        return self.token, self.index


class SubmitOptions(Record):
    """What a retry takes over from the last submit."""

    FILE = "sent.json"

    profile: str | None = None
    data: str | None = None


def submissions(store: Store) -> dict[str, Submission]:
    """Return the last submission of every training of a study, also of those that no grid of it wants any more."""
    folders = sorted(path.parent for path in (store.scratch / store.study).glob(f"*/{Submission.FILE}"))
    records = {folder.name: Submission.read(folder) for folder in folders if IDENTITY.fullmatch(folder.name)}
    return {train_id: record for train_id, record in records.items() if record}


def slurm_folder(store: Store) -> Path:
    """Return the folder of a study's jobs in SLURM."""
    return store.scratch / store.study / "slurm"


def output_path(store: Store, job: str) -> Path:
    """Return the file that one of SLURM's jobs writes."""
    return slurm_folder(store) / job / f"{job}_0_log.out"
