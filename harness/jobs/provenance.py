"""Where and with what a run ran."""

import hashlib
import os
import platform
import re
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
    slurm = {name: os.environ[key] for name, key in SLURM.items() if os.environ.get(key)}
    return {
        "start": utc(time.time()),
        "end": None,
        **source(folder),
        "host": platform.node(),
        **_device(processes),
        "threads": threads,
        "processes": processes,
        "versions": {"python": platform.python_version(), **_versions()},
        "slurm_job_id": f"{slurm['array']}_{slurm['task']}" if {"array", "task"} <= slurm.keys() else slurm.get("job"),
        "slurm": slurm or None,
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
    name = f"diff-{hashlib.sha256(diff).hexdigest()[:12]}.patch" if diff else None
    if diff and name:
        write_bytes(folder / name, diff)
    return {
        "commit": commit.decode().strip() if commit else None,
        "dirty": None if diff is None else bool(diff),
        "diff": name,
    }


def _git(folder: Path, *words: str) -> bytes | None:
    """Return what git prints; None where it fails, or is not there."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=20, check=True).stdout
    return None


def _device(processes: int) -> dict[str, Any]:
    """Return what the run computes on: one GPU for each process where there are any, and what drives it."""
    import torch

    if torch.cuda.is_available():
        # The version of NVIDIA's driver is the word after the module's name in what the kernel says of it.
        driver = re.match(r".*? (\d\S*\.\S*)", _content("/proc/driver/nvidia/version"))
        gpu, cuda = torch.cuda.get_device_name(), torch.version.cuda
        return {"device": gpu, "gpus": processes, "driver": driver and driver[1], "cuda": cuda}
    model = re.search(r"^model name.*?:(.*)$", _content("/proc/cpuinfo"), re.MULTILINE)
    return {"device": model[1].strip() if model else platform.processor() or platform.machine(), "gpus": 0}


def _content(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
