"""Through a real SLURM: one array, and the numbers of an inline run."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.grid import load_table
from harness.store import Store

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def slurm(needs):
    needs("sbatch", "sinfo")
    if subprocess.run(["sinfo", "-h"], capture_output=True).returncode != 0:
        pytest.skip("SLURM does not answer; tests/slurm/cluster.sh up starts one")


def harness(folder: Path, *words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not done() and time.monotonic() < deadline:
        time.sleep(1)


def metrics(folder: Path, study: str) -> dict[str, dict[str, float]]:
    store = Store(folder / "results", folder / "scratch", study)
    runs = load_table(ROOT / "grids" / "table2.yaml", "smoke").runs
    paths = {run.eval_id: store.eval_path(run.train_id, run.eval_id) for run in runs}
    return {name: json.loads(path.read_text())["metrics"] for name, path in paths.items() if path.is_file()}


def test_a_grid_runs_as_one_array_and_gives_the_inline_numbers(slurm, tmp_path):
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    words = ("grids/table2.yaml", "--scale", "smoke", "--study")
    harness(tmp_path, "run", *words, "inline")
    said = harness(tmp_path, "submit", *words, "cluster")
    assert "13 trainings as 1 array(s)" in said
    wait_for(lambda: len(metrics(tmp_path, "cluster")) == 13)
    inline, cluster = metrics(tmp_path, "inline"), metrics(tmp_path, "cluster")
    assert len(inline) == 13
    assert cluster == inline
    attempts = [json.loads(p.read_text())["attempts"] for p in tmp_path.glob("results/cluster/*/env.json")]
    ids = {attempt["slurm_job_id"] for (attempt,) in attempts}
    assert len(ids) == 13
    assert len({i.split("_")[0] for i in ids}) == 1
    assert "everything is done already" in harness(tmp_path, "submit", *words, "cluster")


def test_two_nodes_share_a_training_and_give_the_run_of_one_process(slurm, tmp_path):
    """At the paper's learning rate, for Adam makes whole steps of gradients that are zero but for their rounding."""
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    words = ("grids/convergence.yaml", "--scale", "smoke", "--set", "optimizer.learning_rate=1.0e-4", "--study")
    harness(tmp_path, "run", *words, "inline")
    harness(tmp_path, "submit", *words, "cluster", "--set", "resources.nodes=2")

    def found(study: str) -> dict[str, dict[str, float]]:
        paths = tmp_path.glob(f"results/{study}/*/evals/*.json")
        return {path.stem: json.loads(path.read_text())["metrics"] for path in paths}

    wait_for(lambda: len(found("cluster")) == 8)
    inline, cluster = found("inline"), found("cluster")
    assert inline.keys() == cluster.keys()
    for name, values in inline.items():
        assert cluster[name] == pytest.approx(values, rel=1e-3, abs=1e-4)
    for path in tmp_path.glob("scratch/inline/*/weights-*.safetensors"):
        ours, theirs = load_file(path), load_file(tmp_path / "scratch" / "cluster" / path.relative_to(path.parents[1]))
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5)
    for path in tmp_path.glob("results/cluster/*/env.json"):
        (attempt,) = json.loads(path.read_text())["attempts"]
        assert attempt["processes"] == 2
