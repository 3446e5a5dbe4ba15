"""What was sent to SLURM for a study, beside its checkpoints; written before it is sent.

scratch/<study>/<train_id>/submission.json   which job of SLURM's makes this training
scratch/<study>/slurm/sent.json              the profile and the data folder of the last `harness submit`
scratch/<study>/slurm/                       submitit's files, the jobs' output (<job>/<job>_0_log.out), and their code
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.files import read_json, write_json
from harness.store.store import IDENTITY, Store


@dataclass(frozen=True)
class Submission:
    """One training's record. token: the name of its job, chosen before SLURM gave it an id."""

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


def _path(store: Store, train_id: str) -> Path:
    return store.scratch_folder(train_id) / "submission.json"


def read_submission(store: Store, train_id: str) -> Submission | None:
    """Return a training's last submission; None where there is none."""
    record = read_json(_path(store, train_id))
    return Submission(**record | {"evaluations": tuple(record["evaluations"])}) if isinstance(record, dict) else None


def write_submission(store: Store, train_id: str, submission: Submission | None) -> None:
    """Record a submission; None: remove what is recorded."""
    if submission is None:
        _path(store, train_id).unlink(missing_ok=True)
    else:
        write_json(_path(store, train_id), asdict(submission))


def submissions(store: Store) -> dict[str, Submission]:
    """Return the last submission of every training of a study, also of those that no grid of it wants any more."""
    ids = sorted(path.parent.name for path in (store.scratch / store.study).glob("*/submission.json"))
    return {id: record for id in ids if IDENTITY.fullmatch(id) and (record := read_submission(store, id))}


def slurm_folder(store: Store) -> Path:
    """Return the folder of a study's jobs in SLURM."""
    return store.scratch / store.study / "slurm"


def output_path(store: Store, job: str) -> Path:
    """Return the file that one of SLURM's jobs writes."""
    return slurm_folder(store) / job / f"{job}_0_log.out"


def write_sent(store: Store, profile: str | None, data: Path) -> None:
    """Remember the options of a submission, for a retry of it."""
    write_json(slurm_folder(store) / "sent.json", {"profile": profile, "data": str(data)})


def read_sent(store: Store) -> dict[str, Any]:
    """Return the options of a study's last submission; nothing where none was sent."""
    sent = read_json(slurm_folder(store) / "sent.json")
    return sent if isinstance(sent, dict) else {}
