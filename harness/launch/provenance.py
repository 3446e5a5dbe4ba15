"""Where and with what a run ran."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.launch.snapshot import SOURCE

PACKAGES = ("torch", "torchvision", "timm", "torch-fidelity", "numpy", "safetensors", "scikit-learn", "submitit")


def provenance(threads: int) -> dict[str, Any]:
    """Return the facts of this attempt; `end` is filled in when it ends."""
    return {
        "start": now(),
        "end": None,
        **source(),
        "host": platform.node(),
        "device": _device(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **_versions()},
        "slurm_job_id": _slurm_job(),
    }


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def source() -> dict[str, Any]:
    """Return commit and whether tracked files differ from it; unknown outside a git checkout.

    In a submission's copy of the code they are those of the checkout it was taken from.
    """
    folder = Path(__file__).parent
    kept = read_json(folder.parent / SOURCE)
    if isinstance(kept, dict):
        return kept

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:  # the checkout around us is somebody else's
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder))
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    models = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def _slurm_job() -> str | None:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
