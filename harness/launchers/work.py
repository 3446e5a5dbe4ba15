"""A job as a launcher runs it that has no module of its own for that: its tasks, by the pool of this machine."""

import signal
import sys
from pathlib import Path

from harness.config.cluster_profile import LocalProfile
from harness.files import share_with_group
from harness.jobs.job import Job, jobs_from_json
from harness.launchers.local_launcher import LocalLauncher
from harness.launchers.snapshot import as_received
from harness.store.records import Submission
from harness.store.status import RunStatus


def start(content: bytes, here: Path) -> None:
    """Do the tasks that were sent, but those that were cancelled; here: the folder of the study's jobs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what works for it ends too
    jobs = [job for job in map(as_received, jobs_from_json(content)) if not _is_cancelled(job)]
    outcomes: dict[str, RunStatus] = {}

    def hear(job: Job, outcome: RunStatus | None) -> None:
        if outcome:
            outcomes[job.train_id] = outcome
            print(f"{job.train_id} {outcome.state}: {outcome.words}", flush=True)

    if jobs:
        share_with_group(jobs[0].store.results, jobs[0].store.scratch)
        LocalLauncher(LocalProfile(jobs=jobs[0].resources.at_once)).send_once(jobs, (), hear, wait=True)
    sys.exit(any(not outcome.lets_go_on for outcome in outcomes.values()))


def _is_cancelled(job: Job) -> bool:
    record = Submission.read(job.submission_folder)
    return record is not None and record.cancelled
