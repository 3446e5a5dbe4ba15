"""Why a run is not done: the class of a failure, from what the run wrote and from what SLURM says of its job's end."""

import errno
import os
import shlex
from collections.abc import Mapping, Sequence
from subprocess import CalledProcessError, TimeoutExpired

from harness.errors import Diverged, UserError
from harness.store.records import FailureClass

# What a retry may mend.
CAUSES = ("out of memory", "time limit", "preempted", "node", "disk full", "killed", "bad data", "bug")
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ROOM = tuple(os.strerror(code) for code in FULL)

# SLURM's word for the end of a job that wrote nothing about it itself.
ENDS: Mapping[str, FailureClass] = {
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "DEADLINE": "time limit",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "CANCELLED": "killed",  # by others than `harness cancel`, which leaves word of it
    "FAILED": "killed",
}

# What is to be done before a retry, and what is to be added to it.
REPAIRS: Mapping[FailureClass, str] = {
    "bug": "harness logs --failed {study} shows where; mend it, then: ",
    "bad data": "mend what the message says, then: ",
    "disk full": "make room in the folders of results and scratch, then: ",
}
OPTIONS: Mapping[FailureClass, str] = {
    "out of memory": " --set resources.memory_gb=… (or resources.micro_batch=…)",
    "time limit": " --set resources.hours=…",
}

# What a job's output says, of SLURM's daemon or of a failure that found no room in the run's folder.
SIGNS_IN_OUTPUT: Mapping[str, FailureClass] = {
    "memory limit": "out of memory",  # without cgroups the state does not tell
    "oom-kill": "out of memory",
    "oom_kill": "out of memory",
    **dict.fromkeys(NO_ROOM, "disk full"),
}


def class_of(error: BaseException) -> FailureClass:
    """Return the class of what a run raised."""
    if isinstance(error, Diverged):
        return "diverged"
    # By name, for torch is not imported here, and its error of the CPU's allocator is a plain RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return "out of memory"
    # submitit's, of a job that was queued again too often, or that SLURM did not queue again.
    scontrol = list(error.cmd) if isinstance(error, CalledProcessError | TimeoutExpired) else []
    if type(error).__name__ == "UncompletedJobError" or scontrol[:2] == ["scontrol", "requeue"]:
        return "time limit"
    if type(error).__name__ == "WorkerError":
        return "killed"
    # safetensors has an error of its own, which holds the system's words alone.
    if (isinstance(error, OSError) and error.errno in FULL) or any(words in str(error) for words in NO_ROOM):
        return "disk full"
    if isinstance(error, UserError):
        return "bad data"
    return "bug"


def remedy(kind: FailureClass, study: str, again: Sequence[str] = ()) -> str:
    """Return what to do about a failure.

    study: as a command is told of it. again: of a training that diverged, the commands that make it in another study.
    """
    if kind == "diverged":
        slower = " and ".join(f"{command} --set optimizer.learning_rate=…" for command in again)
        return f"the same seed diverges again; in a study of its own, with less: {slower}"
    retry = f"harness retry {study} --only {shlex.quote(kind)}{OPTIONS.get(kind, '')}"
    return REPAIRS.get(kind, "").format(study=study) + retry
