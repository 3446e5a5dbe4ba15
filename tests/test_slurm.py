"""Through a real SLURM: one array, and the numbers of an inline run."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.files import read_json, read_jsonl
from harness.grid import load_table
from harness.launch.queue import Queued, cancel, queued
from harness.store import Store

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def slurm(needs):
    needs("sbatch", "sinfo")
    if subprocess.run(["sinfo", "-h"], capture_output=True).returncode != 0:
        pytest.skip("SLURM does not answer; tests/slurm/cluster.sh up starts one")


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def harness(folder: Path, *words: str, fails: bool = False, **variables: str) -> str:
    process = start(folder, *words, **variables)
    said, _ = process.communicate()
    assert (process.returncode != 0) == fails, said
    return said


def held(study: str) -> list[Queued]:
    """Return what SLURM holds of a study, whose name no other test uses."""
    return [job for job in queued() if job.name.startswith(f"{study}-")]


@pytest.fixture
def study(slurm, tmp_path):
    """A folder to work in and a study's name that SLURM has not heard yet; what is left of its jobs is ended."""
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    cancel({job.id.partition("_")[0] for job in held(name)})
    wait_for(lambda: not held(name))


def at_once(jobs: list[str]) -> None:
    """SLURM lets a job that is queued again wait for two minutes; do not."""
    for job in jobs:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)


def limited(folder: Path, limit: int) -> None:
    path = folder / "clusters" / "two-node-test.yaml"
    path.write_text(f"{path.read_text()}array_limit: {limit}\n")


def test_two_terminals_submit_each_training_once(study, tmp_path):
    words = ("submit", "grids/table2.yaml", "--scale", "smoke", "--study", study, "--profile", "two-node-test")
    leaked = {"SBATCH_PARTITION": "nowhere", "SLURM_NTASKS": "7", "SLURM_JOB_ID": "1", "RANK": "3", "WORLD_SIZE": "4"}
    said = [process.communicate()[0] for process in [start(tmp_path, *words, **leaked) for _ in range(2)]]
    assert sorted("Submitted 13 trainings as 1 array(s)" in words for words in said) == [False, True], said
    assert "13 trainings are in the queue already" in "".join(said)
    jobs = held(study)
    assert len({job.name for job in jobs}) == 1
    assert len(jobs) <= 13
    array = jobs[0].id.partition("_")[0]
    job = subprocess.run(["scontrol", "show", "job", f"{array}_12"], capture_output=True, text=True).stdout
    assert "Partition=gpu" in job
    assert "NumTasks=1" in job


def test_when_an_array_is_refused_the_ones_before_are_recorded_and_the_same_command_sends_the_rest(study, tmp_path):
    limited(tmp_path, 6)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/calls\n"
        f"[ $(wc -l < {tmp_path}/calls) = 2 ] && {{ echo 'error: the disk is full' >&2; exit 1; }}\n"
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    sbatch.chmod(0o755)
    words = ("submit", "grids/table2.yaml", "--scale", "smoke", "--study", study, "--profile", "two-node-test")
    path = f"{sbatch.parent}:{os.environ['PATH']}"
    said = harness(tmp_path, *words, fails=True, PATH=path)
    assert "SLURM refused array 2 of 3: " in said
    assert "error: the disk is full. Sent and recorded: 6 trainings" in said
    assert "not sent: 7" in said
    assert len(list(tmp_path.glob(f"scratch/{study}/*/submission.json"))) == 6
    said = harness(tmp_path, *words, PATH=path)
    assert "7 trainings as 2 array(s)" in said
    records = [json.loads(p.read_text()) for p in tmp_path.glob(f"scratch/{study}/*/submission.json")]
    assert len({record["job"] for record in records}) == 13
    assert "Submitted" not in harness(tmp_path, *words)


def test_a_crash_between_sbatch_and_the_record_is_found_by_the_token(study, tmp_path):
    words = ("submit", "grids/table2.yaml", "--scale", "smoke", "--study", study, "--profile", "two-node-test")
    harness(tmp_path, *words)
    for path in tmp_path.glob(f"scratch/{study}/*/submission.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"job": None}))
    assert "Submitted" not in harness(tmp_path, *words)


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


def test_cancelled_trainings_do_not_rise_again_and_a_retry_brings_them_back(study, tmp_path):
    words = ("submit", "grids/convergence.yaml", "--scale", "smoke", "--study", study, "--profile", "two-node-test")
    harness(tmp_path, *words)
    jobs = [job.id for job in held(study)]
    assert "End 2 jobs" in harness(tmp_path, "cancel", study, fails=True)  # nobody says yes
    assert len(held(study)) == 2
    harness(tmp_path, "cancel", study, "--yes")
    for job in jobs:  # as an operator might, or SLURM after a node's failure
        subprocess.run(["scontrol", "requeue", job], capture_output=True)
    wait_for(lambda: at_once(jobs) or not held(study))
    assert not found(tmp_path, study)
    said = harness(tmp_path, "status", study)
    assert said.count(" failed: cancelled, SLURM job ") == 2
    assert f"harness retry {study} --only cancelled" in said
    assert "no training failed so" in harness(tmp_path, "retry", study, "--failed", "--profile", "two-node-test")
    harness(
        tmp_path, "retry", study, "--only", "cancelled", "--set", "resources.hours=0.3", "--profile", "two-node-test"
    )
    wait_for(lambda: len(found(tmp_path, study)) == 8)
    assert len(found(tmp_path, study)) == 8
    run = next(tmp_path.glob(f"results/{study}/*/spec.json")).parent.name
    assert "Job completed successfully" in harness(tmp_path, "logs", run)
    shown = harness(tmp_path, "show", run)
    assert f"harness run grids/convergence.yaml --scale smoke --study {study}" in shown
    assert '"slurm_job_id"' in shown
    assert '"fid"' in shown


@pytest.fixture
def steady(tmp_path):
    """Two trainings of some twenty seconds, and their numbers where nothing disturbs them."""
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    scales = tmp_path / "grids" / "scales"
    smoke = (scales / "smoke.yaml").read_text()
    text = smoke.replace("scale: smoke", "scale: steady").replace("steps_per_epoch: 1", "steps_per_epoch: 100")
    (scales / "steady.yaml").write_text(text)
    return ("grids/convergence.yaml", "--scale", "steady", "--set", "resources.log_every=700", "--study")


def found(folder: Path, study: str) -> dict[str, dict[str, float]]:
    paths = folder.glob(f"results/{study}/*/evals/*.json")
    return {path.stem: json.loads(path.read_text())["metrics"] for path in paths}


def logs(folder: Path, study: str) -> dict[str, list[dict[str, float]]]:
    paths = folder.glob(f"results/{study}/*/train.jsonl")
    return {p.parent.name: [line | {"images_per_second": 0} for line in read_jsonl(p)] for p in paths}


def at_step(folder: Path, study: str, step: int) -> list[str]:
    """Return SLURM's ids of the two trainings once both have got that far."""
    beats: list[dict] = []

    def far() -> bool:
        beats[:] = [read_json(p) or {} for p in folder.glob(f"results/{study}/*/heartbeat.json")]
        return len(beats) == 2 and all(beat.get("step", 0) > step for beat in beats)

    wait_for(far)
    assert far(), beats
    return [json.loads(p.read_text())["job"] for p in folder.glob(f"scratch/{study}/*/submission.json")]


def attempts(folder: Path, study: str) -> list[int]:
    return [len(json.loads(p.read_text())["attempts"]) for p in folder.glob(f"results/{study}/*/env.json")]


@pytest.mark.parametrize(
    "disturb",
    [["scontrol", "requeue"], ["scancel", "--signal=USR2"]],
    ids=["queued again", "told that the time is up"],
)
def test_a_training_that_is_disturbed_goes_on_and_gives_the_same_numbers(slurm, steady, tmp_path, disturb):
    """A checkpoint is due every ten minutes: what is there after the disturbance was written because of it."""
    harness(tmp_path, "run", *steady, "inline")
    harness(tmp_path, "submit", *steady, "cluster", "--profile", "two-node-test")
    jobs = at_step(tmp_path, "cluster", 200)
    for job in jobs:
        subprocess.run([*disturb, job], check=True)
    wait_for(lambda: len(list(tmp_path.glob("scratch/cluster/*/latest.json"))) == 2)
    assert all(200 < json.loads(p.read_text())["step"] < 2000 for p in tmp_path.glob("scratch/cluster/*/latest.json"))
    wait_for(lambda: at_once(jobs) or len(found(tmp_path, "cluster")) == 8)
    assert found(tmp_path, "cluster") == found(tmp_path, "inline")
    assert logs(tmp_path, "cluster") == logs(tmp_path, "inline")
    assert attempts(tmp_path, "cluster") == [2, 2]


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
