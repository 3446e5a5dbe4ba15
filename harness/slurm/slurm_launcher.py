"""SLURM as a launcher: parcels are arrays, sent by sbatch."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from harness.config.cluster_profile import SlurmProfile
from harness.errors import UserError
from harness.jobs.job import Job
from harness.launchers.launcher import Parcel, QueuedJob, unfinished
from harness.launchers.queue_status import output_path
from harness.launchers.submission import QueueLauncher
from harness.slurm import client
from harness.slurm.limits import check_allowed
from harness.slurm.sbatch_script import Script, script
from harness.store.records import Submission
from harness.store.store import Store

TASK = "harness.slurm.task"  # what each job starts; it is loaded there, and not here


class SlurmLauncher(QueueLauncher):
    """A cluster under SLURM, asked by its own programs."""

    Profile, name, title = SlurmProfile, "slurm", "SLURM"
    profile: SlurmProfile

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what the profile's cluster cannot give, or no partition of SLURM's ever starts."""
        for job in jobs:
            self.profile.check(job.resources)
        check_allowed(self.profile, (job.resources for job in jobs))

    def check_here(self) -> None:
        """Refuse a machine without SLURM."""
        client.ask("srun", "--version")

    def await_answers(self, patience: float) -> None:
        """Wait for the controller, and for the accounting, which a cluster may be without."""
        client.own_jobs(patience)
        with suppress(UserError):
            client.accounts(["0"], patience=patience)

    def send(self, parcel: Parcel, here: Path, needs: Sequence[str]) -> str:
        """Hand the very text that a dry run prints to sbatch."""
        return self._script(parcel).send(here, needs)

    def text(self, parcel: Parcel) -> str:
        """Return the sbatch file."""
        return self._script(parcel).text

    def _script(self, parcel: Parcel) -> Script:
        return script(self.profile, parcel, TASK)

    def ask(self, names: Collection[str], patience: float = 0) -> list[QueuedJob]:
        """Ask squeue, which knows of a job for some minutes after its end."""
        return client.named_jobs(names, patience)

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """Ask SLURM's accounting, which may be down."""
        return {id: state for id, state, _ in client.accounts(ids)}

    def cancel(self, ids: Collection[str]) -> None:
        """Ask SLURM to end jobs."""
        client.scancel(ids)

    def hides_jobs(self) -> bool:
        """Tell whether SLURM tells nobody of the jobs of others (PrivateData)."""
        return client.hides_jobs()

    def log(self, store: Store, record: Submission) -> Path:
        """Return the file of what a job prints."""
        return output_path(store, str(record.job), record.folder)

    def most(self) -> int:
        """Return the largest array."""
        return client.array_limit() if self.profile.array_limit == "auto" else self.profile.array_limit

    def when_silent(self) -> tuple[int | None, int]:
        """Return what the profile says."""
        most = [limit for limit in (self.profile.max_submitted, self.profile.study_throttle) if limit]
        largest = client.DEFAULT_ARRAY_LIMIT if self.profile.array_limit == "auto" else self.profile.array_limit
        return min(most, default=None), largest

    def seconds_to_end(self) -> float:
        """Return SLURM's KillWait."""
        return client.kill_wait()

    def limits(self, jobs: Sequence[Job], patience: float = 0) -> list[tuple[int, int]]:
        """Return what this user's jobs, those of an account or QoS, and the study's, may be at most, and what room that
        leaves."""
        limits, store = list[tuple[int, int]](), jobs[0].store
        if (most := self.profile.max_submitted) is not None:
            limits.append((most, most - len(client.own_jobs(patience))))
        for account, qos in {self.profile.charged_to(job.resources) for job in jobs}:
            for most, which in client.submit_limits(account, qos):
                limits.append((most, most - len(client.own_jobs(patience, which))))
        if (most := self.profile.study_throttle) is not None:
            names = {record.token for of_training in store.submissions().values() for record in of_training.values()}
            limits.append((most, most - len(unfinished(client.named_jobs(names, patience)))))
        return limits
