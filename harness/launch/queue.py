"""What SLURM holds of our jobs, asked of squeue, scontrol and sacct."""

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from harness.errors import UserError

DEFAULT_ARRAY_LIMIT = 1001  # MaxArraySize where slurm.conf does not say it


@dataclass(frozen=True)
class Queued:
    """A job that SLURM holds: id is 12 or 12_3, state is SLURM's word (PENDING, RUNNING, COMPLETING, …)."""

    id: str
    name: str
    state: str


def queued() -> list[Queued]:
    """Return this user's jobs that wait, run or are ending, each element of an array by itself.

    Raises:
        UserError: SLURM does not answer.
    """
    said = ask("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%j")
    jobs = [Queued(id, name, state) for id, state, name in (line.split("|", 2) for line in said.splitlines())]
    return [job for job in jobs if job.state not in ENDED]


# squeue remembers a job for some minutes after its end (MinJobAge).
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip


def array_limit() -> int:
    """Return the most elements that an array may have here.

    Raises:
        UserError: SLURM does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(found.group(1)) if found else DEFAULT_ARRAY_LIMIT


def ends(ids: Collection[str]) -> dict[str, str]:
    """Return how jobs ended by SLURM's accounting, id → state; without those it does not know.

    Raises:
        UserError: accounting does not answer.
    """
    if not ids:
        return {}
    arrays = ",".join(sorted({id.partition("_")[0] for id in ids}))
    said = ask("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State", f"--jobs={arrays}")
    states = dict(line.split("|", 1) for line in said.splitlines())
    return {id: states[id].partition(" ")[0] for id in ids if id in states}  # "CANCELLED by 0"


def cancel(ids: Collection[str]) -> None:
    """Ask SLURM to end jobs.

    Raises:
        UserError: SLURM does not answer.
    """
    if ids:
        ask("scancel", *sorted(ids))


def ask(*words: str) -> str:
    """Return what a program of SLURM's prints.

    Raises:
        UserError: it is not installed, or fails.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise UserError(f"no SLURM here ('{words[0]}' is not on PATH); 'harness run' runs a grid locally") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM does not answer ({words[0]}, for 120 s); try again") from None
    if done.returncode:
        raise UserError(f"SLURM does not answer ({words[0]}: {done.stderr.strip()}); try again")
    return done.stdout
