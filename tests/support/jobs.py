"""Jobs of shipped grids at the smallest scale, in folders of a test's own."""

from dataclasses import dataclass
from pathlib import Path

from support.places import GRIDS

from harness.config.cluster_profile import SlurmProfile
from harness.config.grid import load_table
from harness.jobs.job import Job, jobs_for
from harness.slurm.slurm_launcher import SlurmLauncher
from harness.store.records import Submission
from harness.store.store import Store


def store_in(folder: Path) -> Store:
    return Store(folder / "results", folder / "scratch", "study")


def jobs_of(folder: Path, table: str, *overrides: str, data: Path | None = None) -> list[Job]:
    """Return the jobs of a table's trainings; data: the folder of the data sets, else one in `folder`."""
    runs = load_table(GRIDS / f"{table}.yaml", "smoke", overrides).runs
    return jobs_for(runs, store_in(folder), data or folder / "data")


@dataclass(frozen=True)
class TrainingOnly(Job):
    """A job that trains, and leaves out what it should measure."""

    def _evaluate(self, *_: object) -> None:
        pass


def without_measuring(job: Job) -> TrainingOnly:
    return TrainingOnly(**vars(job))


def submission(index: int | None, job: str | None = None, **others) -> Submission:
    """Return the record of a training that was sent under the name study-0."""
    return Submission(**{"token": "study-0", "index": index, "evaluations": (), "time": 0.0, "job": job, **others})


def slurm(**settings: object) -> SlurmLauncher:
    """Return SLURM as a profile with these settings has it."""
    return SlurmLauncher(SlurmProfile(**settings))
