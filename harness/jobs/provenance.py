"""Where and with what a run ran."""

import hashlib
import os
import platform
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.files import read_json, write_bytes
from harness.store.records import utc

PACKAGE = Path(__file__).parents[1]
SOURCE = "source.json"  # in a submission's copy of the code: what `source` says of where it was taken
PACKAGES = ("torch", "torchvision", "timm", "torch-fidelity", "numpy", "safetensors", "scikit-learn", "submitit")
# What SLURM says of a job that its id alone does not.
SLURM = {
    "cluster": "SLURM_CLUSTER_NAME", "job": "SLURM_JOB_ID", "array": "SLURM_ARRAY_JOB_ID",
    "task": "SLURM_ARRAY_TASK_ID", "restarts": "SLURM_RESTART_COUNT", "partition": "SLURM_JOB_PARTITION",
    "nodes": "SLURM_JOB_NODELIST",
}  # fmt: skip


def provenance(folder: Path, threads: int, processes: int) -> dict[str, Any]:
    """Return the facts of this attempt; `end` is filled in when it ends. Uncommitted changes are kept in `folder`."""
    return {
        "start": utc(time.time()),
        "end": None,
        **source(folder),
        "host": platform.node(),
        **_device(processes),
        "threads": threads,
        "processes": processes,
        "versions": {"python": platform.python_version(), **_versions()},
        "slurm_job_id": _slurm_job(),
        "slurm": {name: os.environ[key] for name, key in SLURM.items() if os.environ.get(key)} or None,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def source(folder: Path, package: Path = PACKAGE) -> dict[str, Any]:
    """Return commit, whether tracked files differ from it, and the file of `folder` that says how, named by its
    content; unknown outside a git checkout. In a submission's copy of the code they are those of where it was taken."""
    origin = read_json(package / SOURCE)
    if isinstance(origin, dict):
        if origin["diff"]:
            write_bytes(folder / origin["diff"], (package / origin["diff"]).read_bytes())
        return origin
    if _git(package, "ls-files", "--error-unmatch", "cli.py") is None:  # the checkout around us is somebody else's
        return {"commit": None, "dirty": None, "diff": None}
    commit, diff = _git(package, "rev-parse", "HEAD"), _git(package, "diff", "--binary", "HEAD", "--", ".")
    if not diff:
        return {"commit": _words(commit), "dirty": None if diff is None else False, "diff": None}
    name = f"diff-{hashlib.sha256(diff).hexdigest()[:12]}.patch"
    write_bytes(folder / name, diff)
    return {"commit": _words(commit), "dirty": True, "diff": name}


def _git(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _words(output: bytes | None) -> str | None:
    return output.decode().strip() if output else None


def _device(processes: int) -> dict[str, Any]:
    """Return what the run computes on: one GPU for each process where there are any, and what drives it."""
    import torch

    if torch.cuda.is_available():
        gpu, cuda = torch.cuda.get_device_name(), torch.version.cuda
        return {"device": gpu, "gpus": processes, "driver": _driver(), "cuda": cuda}
    models = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {"device": models[0] if models else platform.processor() or platform.machine(), "gpus": 0}


def _driver() -> str | None:
    """Return the version of NVIDIA's driver: the word after the module's name in what the kernel says of it."""
    words = " ".join(_lines("/proc/driver/nvidia/version")[:1]).split()
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _slurm_job() -> str | None:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
