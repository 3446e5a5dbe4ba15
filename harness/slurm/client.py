"""What SLURM knows of our jobs, asked of its own programs; and what a job is not to know of our shell."""

import os
import re
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from harness.errors import UserError
from harness.launchers.bootstrap import user_name
from harness.launchers.launcher import QueuedJob, unfinished
from harness.launchers.submission import LIMIT
from harness.process_group import LAUNCHER

NAMES_AT_ONCE = 1000  # in a word of a command line, which may have 128 KiB
DEFAULT_ARRAY_LIMIT = 1001  # MaxArraySize where slurm.conf does not say it
RESTART = 60.0  # seconds for which a controller that is started again may be away
# slurmctld; and slurmdbd, whom sacct asks
AWAY = re.compile(
    "Unable to contact slurm controller|Socket timed out on send/recv operation|"
    "Problem talking to the database|Connection refused"
)
DENIED = "Access/permission denied"
AT_WORK = {"idle", "mix", "alloc", "comp", "plnd", "resv"}  # sinfo's words for the states of nodes
AT_WORK_TOO = "-~#"  # sinfo's marks of nodes that are planned for, or powered when a job comes
NEEDED_TO_ASK = ("SLURM_CONF", "SLURM_JWT")  # how SLURM is reached, which is no property of a job
LEAKING = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")


def squeue(which: str, patience: float = 0, *among: str) -> list[QueuedJob]:
    """Return jobs, each element of an array by itself, and those that ended in the last minutes (MinJobAge).

    which: the option of squeue that chooses them, and `among` them. patience: see `ask`.

    Raises:
        UserError: SLURM does not answer.
    """
    words = ("squeue", which, *among, "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%U|%j")
    rows = [line.split("|", 4) for line in ask(*words, patience=patience).splitlines()]
    return [QueuedJob(id, name, state, reason, int(uid)) for id, state, reason, uid, name in rows]


def named_jobs(names: Iterable[str], patience: float = 0) -> list[QueuedJob]:
    """Return everybody's jobs of some names, as `squeue`: a study's are known by name before SLURM gives them ids.

    Raises:
        UserError: SLURM does not answer.
    """
    unique = sorted(set(names))
    parts = [unique[first : first + NAMES_AT_ONCE] for first in range(0, len(unique), NAMES_AT_ONCE)]
    return [job for part in parts for job in squeue(f"--name={','.join(part)}", patience)]


def own_jobs(patience: float = RESTART, *which: str) -> list[QueuedJob]:
    """Return this user's jobs that wait, run or are ending; a restart of the controller is waited for.

    which: options of squeue that choose among them.

    Raises:
        UserError: SLURM does not answer.
    """
    return unfinished(squeue("--me", patience, *which))


def array_limit() -> int:
    """Return the most elements that an array may have here.

    Raises:
        UserError: SLURM does not answer.
    """
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(limit.group(1)) if limit else DEFAULT_ARRAY_LIMIT


def submit_limits(account: str | None, qos: str | None) -> list[tuple[int, str]]:
    """Return how many jobs of this user the queue may hold, in an account and with a QoS; None for the default of both.

    Each with the option of squeue that chooses the jobs which count.

    None where SLURM enforces no limit, or does not say. Those that users share are not among them.
    """
    if not _configured(r"^AccountingStorageEnforce\s*=.*\b(limits)\b"):
        return []
    limits = list[tuple[int, str]]()
    with suppress(UserError):
        columns = "format=defaultaccount,account,defaultqos,maxsubmitjobs"
        mine = ("sacctmgr", "-nP", "show", "user", user_name(os.geteuid()), "withassoc", columns)
        rows = [line.split("|") for line in ask(*mine).splitlines()]
        for _, name, default_qos, most in [row for row in rows if row[1] == (account or row[0])]:
            qos = qos or default_qos
            limits += [(int(most), f"--account={name}")] if most.isdigit() else []
        name = qos or "normal"
        most = ask("sacctmgr", "-nP", "show", "qos", name, "format=maxsubmitpu").strip()
        limits += [(int(most), f"--qos={name}")] if most.isdigit() else []
    return limits


def kill_wait() -> float:
    """Return the seconds that SLURM gives a job to end; what it is by default where it does not say so."""
    return float(_configured(r"^KillWait\s*=\s*(\d+)") or 30)


def hides_jobs() -> bool:
    """Tell whether SLURM tells nobody of the jobs of others."""
    return bool(_configured(r"^PrivateData\s*=.*\b(jobs)\b"))


def _configured(pattern: str) -> str:
    """Return the first group of a pattern in SLURM's configuration; "" where it is not there, or it does not answer."""
    with suppress(UserError):
        if match := re.search(pattern, ask("scontrol", "show", "config"), re.MULTILINE):
            return match[1]
    return ""


def accounts(ids: Collection[str], *flags: str, patience: float = 0) -> list[tuple[str, str, str]]:
    """Return what SLURM's accounting knows of jobs: id, state and nodes; without those it does not know.

    patience: see `ask`.

    Raises:
        UserError: accounting does not answer.
    """
    if not ids:
        return []
    arrays = ",".join(sorted({id.partition("_")[0] for id in ids}))
    columns = "--format=JobID,State,NodeList"
    words = ("sacct", "--allusers", "--noheader", "--allocations", "--parsable2")
    output = ask(*words, *flags, columns, f"--jobs={arrays}", patience=patience)
    rows = [line.split("|", 2) for line in output.splitlines()]
    return [(id, state.partition(" ")[0], nodes) for id, state, nodes in rows if id in ids]  # "CANCELLED by 0"


def failed_nodes(ids: Collection[str]) -> list[str]:
    """Return the nodes that failed under jobs and are to be left out, also where SLURM then gave the job another.

    Of the nodes of one job those count that are out of work now, where there are any. Where no node would be left to
    work, those that work again are not left out.

    Raises:
        UserError: SLURM or its accounting does not answer.
    """
    lists = {nodes for _, state, nodes in accounts(ids, "--duplicates") if state == "NODE_FAIL"}
    if not lists:
        return []
    states = [line.split() for line in ask("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()]
    working = {name for name, state in states if state.rstrip(AT_WORK_TOO) in AT_WORK}
    failed: set[str] = set()
    for nodes in lists:
        names = set(ask("scontrol", "show", "hostnames", nodes).split())
        failed |= names - working or names
    if not working - failed:
        failed = failed - working if working else set()
    return sorted(failed)


def scancel(ids: Collection[str]) -> None:
    """Ask SLURM to end jobs.

    Raises:
        UserError: SLURM does not answer, or does not let this user end them.
    """
    try:
        if ids:
            ask("scancel", *sorted(ids), patience=RESTART)
    except UserError as error:
        if DENIED in str(error):
            raise UserError(f"SLURM lets only who sent them, or operates the cluster, do so ({DENIED})") from None
        raise


def sbatch(path: Path, needs: Sequence[str] = (), kind: str = "afterok") -> str:
    """Send a job's file to SLURM, and return the id of the job.

    needs: ids of jobs that must end before it begins. kind: afterok, well, or SLURM takes it out of the queue; or
    afterany.

    Raises:
        UserError: SLURM refuses it; in its own words.
    """
    try:
        order = [f"--dependency={kind}:{':'.join(needs)}", "--kill-on-invalid-dep=yes"] if needs else []
        done = subprocess.run(["sbatch", *order, str(path)], capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise UserError("no SLURM here ('sbatch' is not on PATH)") from None
    answer = re.search(r"job ([0-9]+)", done.stdout)
    if done.returncode or not answer:
        raise UserError(_refusal(done))
    return answer.group(1)


def _refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return why sbatch refuses a job: its last line, and where the one before it is the name of a limit, that."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"it ended with {done.returncode}"]
    *_, before, last = ["", *(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines)]
    return f"{last} ({before})" if LIMIT.fullmatch(before) else last


def would_take(text: str) -> None:
    """Ask whether SLURM would take a job's file and could start it, without sending it.

    Raises:
        UserError: no, in its own words; or SLURM does not answer.
    """
    try:
        with own_environment():
            words = ["sbatch", "--test-only"]
            done = subprocess.run(words, input=text, capture_output=True, text=True, errors="replace", timeout=120)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        raise UserError("SLURM does not answer (sbatch --test-only)") from None
    if done.returncode:
        raise UserError(f"SLURM would not take it: {_refusal(done)}")


def ask(*words: str, patience: float = 0) -> str:
    """Return what a program of SLURM's prints.

    patience: seconds for which it is asked again where the controller is away; 0 where the answer can wait.

    Raises:
        UserError: it is not installed, or fails.
    """
    run = partial(subprocess.run, words, capture_output=True, text=True, timeout=120)
    deadline = time.monotonic() + patience
    try:
        while (done := run()).returncode and AWAY.search(done.stderr) and time.monotonic() < deadline:
            time.sleep(1)
    except FileNotFoundError:
        raise UserError(f"no SLURM here ('{words[0]}' is not on PATH); 'harness run' runs a grid locally") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM does not answer ({words[0]}, for 120 s); try again") from None
    if done.returncode:
        raise UserError(f"SLURM does not answer ({words[0]}: {done.stderr.strip()}); try again")
    return done.stdout


@contextmanager
def own_environment() -> Iterator[None]:
    """Hide from sbatch, which hands its environment to the job, what describes the calling shell's own job.

    SBATCH_… would overrule the profile, and a shell inside an allocation has the SLURM_… of that.
    """
    slurms = [name for name in os.environ if name.startswith(LEAKING) and name not in NEEDED_TO_ASK]
    leaking = {*slurms, *LAUNCHER} & os.environ.keys()
    leaked = {name: os.environ.pop(name) for name in leaking}
    try:
        yield
    finally:
        os.environ.update(leaked)
