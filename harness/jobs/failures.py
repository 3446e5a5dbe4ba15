"""Why a run is not done: the class of a failure, from what the run wrote and from what SLURM says of its job's end."""

import errno
import shlex
from collections.abc import Sequence
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired
from typing import Any

import yaml

from harness.errors import Diverged, UserError
from harness.store.records import FailureClass

FULL = (errno.ENOSPC, errno.EDQUOT)
CAUSES: dict[FailureClass, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
ENDS: dict[str, FailureClass] = {end: kind for kind, cause in CAUSES.items() for end in cause.get("slurm", ())}
SIGNS_IN_OUTPUT = {sign: kind for kind, cause in CAUSES.items() for sign in cause.get("output", ())}


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
    no_room = any(words in str(error) for words in CAUSES["disk full"]["output"])
    if no_room or (isinstance(error, OSError) and error.errno in FULL):
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
    cause = CAUSES.get(kind, {})
    repair = f"{cause['repair'].format(study=study)}, then: " if "repair" in cause else ""
    return f"{repair}harness retry {study} --class {shlex.quote(kind)} {cause.get('options', '')}".rstrip()
