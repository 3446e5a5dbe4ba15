"""What SLURM holds of our jobs, asked of squeue, scontrol and sacct."""

import re
import subprocess
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.errors import UserError

DEFAULT_ARRAY_LIMIT = 1001  # MaxArraySize where slurm.conf does not say it
RESTART = 60.0  # seconds for which a controller that is started again may be away
AWAY = ("Unable to contact slurm controller", "Socket timed out on send/recv operation")
AT_WORK = {"idle", "mix", "alloc", "comp", "plnd", "resv"}  # sinfo's words for the states of nodes
AT_WORK_TOO = "-~#"  # sinfo's marks of nodes that are planned for, or powered when a job comes
# squeue remembers a job for some minutes after its end (MinJobAge).
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip


@dataclass(frozen=True)
class Queued:
    """A job that SLURM has: id is 12 or 12_3, state is SLURM's word (PENDING, RUNNING, COMPLETING, …).

    reason: why it waits, in SLURM's words.
    """

    id: str
    name: str
    state: str
    reason: str = ""

    @property
    def place(self) -> tuple[str, int | None]:
        """Its name, and its index in an array."""
        return self.name, int(self.id.partition("_")[2]) if "_" in self.id else None

    @property
    def held(self) -> bool:
        """Tell whether it waits until somebody releases it, as SLURM has it where a node could not start it."""
        return self.state == "PENDING" and "held" in self.reason.lower()

    @property
    def ended(self) -> bool:
        """Tell whether it is over."""
        return self.state in ENDED


def listed(patience: float = 0) -> list[Queued]:
    """Return this user's jobs, each element of an array by itself, and those that ended in the last minutes.

    patience: see `ask`.

    Raises:
        UserError: SLURM does not answer.
    """
    words = ("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%j")
    said = ask(*words, patience=patience)
    rows = [line.split("|", 3) for line in said.splitlines()]
    return [Queued(id, name, state, reason) for id, state, reason, name in rows]


def queued() -> list[Queued]:
    """Return this user's jobs that wait, run or are ending, as who acts on them must know; a restart is waited for.

    Raises:
        UserError: SLURM does not answer.
    """
    return [job for job in listed(RESTART) if not job.ended]


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
    states = {id: state for id, state, _ in _accounts(ids)}
    return {id: states[id] for id in ids if id in states}


def failed_nodes(ids: Collection[str]) -> list[str]:
    """Return the nodes that failed under jobs and are to be left out, also where SLURM then gave the job another.

    Of the nodes of one job those count that are out of work now, where there are any. Where no node would be left to
    work, those that work again are not left out.

    Raises:
        UserError: SLURM or its accounting does not answer.
    """
    lists = {nodes for id, state, nodes in _accounts(ids, "--duplicates") if id in ids and state == "NODE_FAIL"}
    if not lists:
        return []
    told = [line.split() for line in ask("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()]
    working = {name for name, state in told if state.rstrip(AT_WORK_TOO) in AT_WORK}
    found: set[str] = set()
    for nodes in lists:
        names = set(ask("scontrol", "show", "hostnames", nodes).split())
        found |= names - working or names
    if not working - found:
        found = found - working if working else set()
    return sorted(found)


def _accounts(ids: Collection[str], *flags: str) -> list[tuple[str, str, str]]:
    """Return what accounting knows of jobs: id, state and nodes."""
    if not ids:
        return []
    arrays = ",".join(sorted({id.partition("_")[0] for id in ids}))
    columns = "--format=JobID,State,NodeList"
    said = ask("sacct", "--noheader", "--allocations", "--parsable2", *flags, columns, f"--jobs={arrays}")
    rows = [line.split("|", 2) for line in said.splitlines()]
    return [(id, state.partition(" ")[0], nodes) for id, state, nodes in rows]  # "CANCELLED by 0"


def cancel(ids: Collection[str]) -> None:
    """Ask SLURM to end jobs.

    Raises:
        UserError: SLURM does not answer.
    """
    if ids:
        ask("scancel", *sorted(ids), patience=RESTART)


def ask(*words: str, patience: float = 0) -> str:
    """Return what a program of SLURM's prints.

    patience: seconds for which it is asked again where the controller is away; 0 where the answer can wait.

    Raises:
        UserError: it is not installed, or fails.
    """
    deadline = time.monotonic() + patience
    while (done := _run(words)).returncode and _away(done.stderr) and time.monotonic() < deadline:
        time.sleep(1)
    if done.returncode:
        raise UserError(f"SLURM does not answer ({words[0]}: {done.stderr.strip()}); try again")
    return done.stdout


def await_controller() -> None:
    """Wait while the controller is being restarted, for who can ask it only once; not for ever."""
    with suppress(UserError):
        ask("squeue", "--me", "--noheader", patience=RESTART)


def _away(said: str) -> bool:
    return any(words in said for words in AWAY)


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise UserError(f"no SLURM here ('{words[0]}' is not on PATH); 'harness run' runs a grid locally") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM does not answer ({words[0]}, for 120 s); try again") from None
