"""What the tests share that need the cluster of tests/cluster/cluster.sh."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from support.forked import Command
from support.places import ROOT

from harness.files import read_json, read_jsonl
from harness.launchers.launcher import QueuedJob, unfinished
from harness.slurm.client import RESTART, ask, squeue

CLUSTER = ROOT / "tests" / "cluster" / "cluster.sh"
PROFILE = ("--profile", "two-node-test")


def copy_inputs(folder: Path) -> None:
    """Copy grids and profiles into a folder, where a test may change them."""
    for name in ("grids", "clusters"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def start(folder: Path, *words: str, **variables: str) -> Command | subprocess.Popen[str]:
    """Start a command of the harness; PYTHONPATH among the variables: the one of another source, or with more on it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    if "PYTHONPATH" not in variables:
        return Command(words, folder, environment)
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def harness(folder: Path, *words: str, fails: bool = False, **variables: str) -> str:
    process = start(folder, *words, **variables)
    output, _ = process.communicate()
    assert (process.returncode != 0) == fails, output
    return output


def slurm(*words: str) -> str:
    """Return what a program of SLURM's prints."""
    return ask(*words, patience=RESTART).strip()


def queued_jobs(study: str) -> list[QueuedJob]:
    """Return what SLURM holds of a study, whose name no other test uses, whoever sent it."""
    return [job for job in unfinished(squeue("--all", RESTART)) if job.name.startswith(f"{study}-")]


def at_once(jobs: list[str]) -> None:
    """SLURM lets a job that is queued again wait for two minutes; do not. In the second in which it ended it would be
    refused by its node ("Job credential revoked"), and fail."""
    if jobs:
        time.sleep(1.1)
    for job in jobs:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)


def wait_for(done: Callable[[], object], seconds: float = 300, every: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(every)


def metrics_of(folder: Path, study: str) -> dict[str, dict[str, float]]:
    """Return the metrics of a study's measurements by their names."""
    paths = folder.glob(f"results/{study}/*/evals/*.json")
    return {path.stem: json.loads(path.read_text())["metrics"] for path in paths}


def logs(folder: Path, study: str) -> dict[str, list[dict[str, float]]]:
    paths = folder.glob(f"results/{study}/*/train.jsonl")
    return {p.parent.name: [line | {"images_per_second": 0} for line in read_jsonl(p)] for p in paths}


def records(folder: Path, study: str) -> dict[str, dict]:
    """Return what is recorded of a study's submissions, by training."""
    paths = folder.glob(f"scratch/{study}/*/submission.json")
    return {path.parent.name: read_json(path) for path in paths}


def write_grid(folder: Path, name: str, label_drop: float) -> str:
    """Write a grid of one short training, which no other share of hidden labels has; return its path."""
    content = yaml.safe_load((folder / "grids" / "convergence.yaml").read_text())
    content["axes"]["arm"]["baseline"]["label_drop"] = label_drop
    content |= {"table": name, "vary": [{"product": {"epochs": ["20"], "arm": ["baseline"]}}], "paper": []}
    (folder / "grids" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return f"grids/{name}.yaml"


def write_profile(folder: Path, name: str, **settings: object) -> tuple[str, str]:
    """Write a variant of the test cluster's profile; return the words that choose it."""
    content = yaml.safe_load((folder / "clusters" / "two-node-test.yaml").read_text()) | settings
    (folder / "clusters" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return "--profile", name


def write_scale(folder: Path, name: str, steps_per_epoch: int) -> None:
    """Write a scale like smoke, but of longer trainings."""
    text = (folder / "grids" / "scales" / "smoke.yaml").read_text()
    for before, after in (("scale: smoke", f"scale: {name}"), ("per_epoch: 1", f"per_epoch: {steps_per_epoch}")):
        text = text.replace(before, after)
    (folder / "grids" / "scales" / f"{name}.yaml").write_text(text)
