"""Through a real SLURM: submissions, and the numbers of an inline run whatever happens on the way."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.real_slurm import (
    CLUSTER,
    PROFILE,
    at_once,
    copy_inputs,
    harness,
    logs,
    metrics_of,
    queued_jobs,
    records,
    slurm,
    start,
    wait_for,
    write_profile,
    write_scale,
)  # fmt: skip

from harness.files import read_json, write_json

pytestmark = [pytest.mark.integration, pytest.mark.slow]
STEADY = ("grids/convergence.yaml", "--scale", "steady", "--set", "resources.log_every=350", "--study")
CONVERGENCE = ("grids/convergence.yaml", "--scale", "smoke", "--study")  # two trainings, eight measurements


@pytest.fixture
def closed(study, tmp_path) -> tuple[str, ...]:
    """Words that submit Table 2 into a queue that starts nothing."""
    profile = write_profile(tmp_path, "closed", partitions={"closed": {}}, resources={"partition": "closed"})
    return "submit", "grids/table2.yaml", "--scale", "smoke", "--study", study, *profile


def test_two_terminals_submit_each_training_once_and_a_crash_after_sbatch_is_found(study, closed, tmp_path):
    leaked = {"SBATCH_PARTITION": "nowhere", "SLURM_NTASKS": "7", "SLURM_JOB_ID": "1", "RANK": "3", "WORLD_SIZE": "4"}
    output = [process.communicate()[0] for process in [start(tmp_path, *closed, **leaked) for _ in range(2)]]
    assert sorted("Submitted 13 trainings as 1 array(s)" in words for words in output) == [False, True], output
    assert "13 trainings are in the queue already" in "".join(output)
    jobs = queued_jobs(study)
    assert len({job.name for job in jobs}) == 1
    assert len(jobs) == 13
    job = slurm("scontrol", "show", "job", f"{jobs[0].id.partition('_')[0]}_12")
    assert "Partition=closed" in job
    assert "NumTasks=1" in job
    for name, record in records(tmp_path, study).items():  # as if killed before the id was written down
        write_json(tmp_path / "scratch" / study / name / "submission.json", record | {"job": None})
    assert "Submitted" not in harness(tmp_path, *closed)
    # A row that is taken out of the grid cancels nothing.
    grid = tmp_path / "grids" / "table2.yaml"
    content = yaml.safe_load(grid.read_text())
    grid.write_text(yaml.safe_dump(content | {"vary": content["vary"][:1], "paper": []}))
    assert "Submitted" not in harness(tmp_path, *closed)
    assert len(queued_jobs(study)) == 13


def test_1500_rows_are_two_arrays_and_nothing_is_lost_when_the_second_is_refused(study, tmp_path):
    profile = write_profile(tmp_path, "closed", partitions={"closed": {}}, resources={"partition": "closed"})
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/calls\n"
        f"[ $(wc -l < {tmp_path}/calls) = 2 ] && {{ echo 'error: the disk is full' >&2; exit 1; }}\n"
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    sbatch.chmod(0o755)
    words = ("submit", *CONVERGENCE, study, "--set", f"seeds={list(range(750))}", *profile)
    path = f"{sbatch.parent}:{os.environ['PATH']}"
    output = harness(tmp_path, *words, fails=True, PATH=path)
    assert "SLURM refused array 2 of 2: " in output
    assert ": the disk is full. Sent and recorded: 1001 trainings" in output
    assert "not sent: 499" in output
    assert len(queued_jobs(study)) == len(records(tmp_path, study)) == 1001
    assert "499 trainings as 1 array(s)" in harness(tmp_path, *words, PATH=path)
    assert len(queued_jobs(study)) == len({record["job"] for record in records(tmp_path, study).values()}) == 1500
    assert "Submitted" not in harness(tmp_path, *words)


def test_an_array_gives_the_inline_numbers_after_it_was_cancelled_and_brought_back(study, tmp_path):
    harness(tmp_path, "run", *CONVERGENCE, "inline")
    stuck = tmp_path / "stuck"
    stuck.touch()
    waits = write_profile(tmp_path, "waits", setup=[f"[ -e {stuck} ] && sleep 600"])
    assert "2 trainings as 1 array(s)" in harness(tmp_path, "submit", *CONVERGENCE, study, *waits)
    jobs = [job.id for job in queued_jobs(study)]
    assert "End 2 jobs" in harness(tmp_path, "cancel", study, fails=True)  # nobody says yes
    assert len(queued_jobs(study)) == 2
    harness(tmp_path, "cancel", study, "--yes")
    stuck.unlink()
    for job in jobs:  # as an operator might, or SLURM after a node's failure
        subprocess.run(["scontrol", "requeue", job], capture_output=True)
    wait_for(lambda: at_once(jobs) or not queued_jobs(study))
    assert not metrics_of(tmp_path, study)
    output = harness(tmp_path, "status", study)
    assert output.count(" failed: cancelled, SLURM job ") == 2
    assert f"harness retry {study} --class cancelled" in output
    assert "no training failed so" in harness(tmp_path, "retry", study, "--failed", *PROFILE)
    harness(tmp_path, "retry", study, "--class", "cancelled", "--set", "resources.hours=0.3", *PROFILE)
    wait_for(lambda: len(metrics_of(tmp_path, study)) == 8 and not queued_jobs(study))
    assert metrics_of(tmp_path, study) == metrics_of(tmp_path, "inline")
    assert "everything is done already" in harness(tmp_path, "submit", *CONVERGENCE, study)
    path = next(tmp_path.glob(f"results/{study}/*/evals/*.json"))
    run, before = path.parents[1].name, metrics_of(tmp_path, study)
    assert "Job completed successfully" in harness(tmp_path, "logs", run)
    shown = harness(tmp_path, "show", run)
    assert f"harness run grids/convergence.yaml --scale smoke --study {study}" in shown
    assert '"slurm_job_id"' in shown
    assert '"fid"' in shown
    path.unlink()
    assert "Submitted 1 trainings" in harness(tmp_path, "submit", *CONVERGENCE, study, *PROFILE, "--measure-only")
    wait_for(path.is_file)
    assert metrics_of(tmp_path, study) == before


@pytest.fixture(scope="module")
def inline(needs, cache, tmp_path_factory) -> Path:
    """A folder in which trainings that are long enough to be stopped have been run inline."""
    needs("sbatch", "sinfo")
    folder = tmp_path_factory.mktemp("steady")
    (folder / "scratch").mkdir()
    (folder / "scratch" / ".cache").symlink_to(cache)
    copy_inputs(folder)
    write_scale(folder, "steady", 50)
    harness(folder, "run", *STEADY, "inline", "--jobs", "2")
    return folder


@pytest.mark.disturbs
@pytest.mark.long
def test_a_training_whose_time_is_up_goes_on_and_its_state_is_true_without_accounting(study, inline, tmp_path):
    """A checkpoint is due every ten minutes: what is there after the signal was written because of it."""
    write_scale(tmp_path, "steady", 50)
    harness(tmp_path, "submit", *STEADY, study, *PROFILE)
    subprocess.run([CLUSTER, "accounting-off"], check=True)
    try:
        jobs = at_step(tmp_path, study, 100)
        assert "2 running" in " ".join(harness(tmp_path, "status", study).split())
        for job in jobs:
            slurm("scancel", "--signal=USR2", job)
        wait_for(lambda: len(list(tmp_path.glob(f"scratch/{study}/*/latest.json"))) == 2)
        steps = [read_json(p)["step"] for p in tmp_path.glob(f"scratch/{study}/*/latest.json")]
        assert all(100 < step < 1000 for step in steps)
        wait_for(lambda: all(job.state == "PENDING" for job in queued_jobs(study)))
        assert "2 trainings in SLURM's queue" in harness(tmp_path, "status", study)
        wait_for(lambda: at_once(jobs) or len(metrics_of(tmp_path, study)) == 8, seconds=900)
    finally:
        subprocess.run([CLUSTER, "accounting-on"], check=True)
    assert metrics_of(tmp_path, study) == metrics_of(inline, "inline")
    assert logs(tmp_path, study) == logs(inline, "inline")
    environments = [read_json(p) for p in tmp_path.glob(f"results/{study}/*/env.json")]
    assert [len(environment["attempts"]) for environment in environments] == [2, 2]


@pytest.mark.long
def test_trainings_that_share_a_gpu_stop_together_at_the_signal_and_give_the_inline_numbers(study, inline, tmp_path):
    """The GPU is one that SLURM counts and nobody has: what shares it computes on the CPU."""
    write_scale(tmp_path, "steady", 50)
    sharing = ("--set", "resources.gpus=1", "--set", "resources.jobs_per_gpu=2")
    harness(tmp_path, "submit", *STEADY, study, *sharing, *PROFILE)
    (job,) = set(at_step(tmp_path, study, 100))
    assert "gres/gpu=1" in slurm("scontrol", "show", "job", job)
    slurm("scancel", "--signal=USR2", job)
    wait_for(lambda: [queued.state for queued in queued_jobs(study)] == ["PENDING"])
    steps = [read_json(p)["step"] for p in tmp_path.glob(f"scratch/{study}/*/latest.json")]
    assert len(steps) == 2
    assert all(100 < step < 1000 for step in steps)
    wait_for(lambda: at_once([job]) or len(metrics_of(tmp_path, study)) == 8, seconds=900)
    assert metrics_of(tmp_path, study) == metrics_of(inline, "inline")
    assert logs(tmp_path, study) == logs(inline, "inline")


def at_step(folder: Path, study: str, step: int) -> list[str]:
    """Return SLURM's ids of the two trainings once both have got that far."""
    beats: list[dict] = []

    def far() -> bool:
        beats[:] = [read_json(p) or {} for p in folder.glob(f"results/{study}/*/heartbeat.json")]
        return len(beats) == 2 and all(beat.get("step", 0) > step for beat in beats)

    wait_for(far)
    assert far(), beats
    return [record["job"] for record in records(folder, study).values()]


def test_two_nodes_share_a_training_and_give_the_run_of_one_process(study, tmp_path):
    """At the paper's learning rate, for Adam makes whole steps of gradients that are zero but for their rounding."""
    words = ("grids/convergence.yaml", "--scale", "smoke", "--set", "optimizer.learning_rate=1.0e-4", "--study")
    harness(tmp_path, "run", *words, "inline")
    harness(tmp_path, "submit", *words, study, "--set", "resources.nodes=2", *PROFILE)
    wait_for(lambda: len(metrics_of(tmp_path, study)) == 8)
    inline, cluster = metrics_of(tmp_path, "inline"), metrics_of(tmp_path, study)
    assert inline.keys() == cluster.keys()
    for name, values in inline.items():
        assert cluster[name] == pytest.approx(values, rel=1e-3, abs=1e-4)
    for path in tmp_path.glob("scratch/inline/*/weights-*.safetensors"):
        ours, theirs = load_file(path), load_file(tmp_path / "scratch" / study / path.relative_to(path.parents[1]))
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5)
    for path in tmp_path.glob(f"results/{study}/*/env.json"):
        (attempt,) = read_json(path)["attempts"]
        assert attempt["processes"] == 2


def test_the_doctor_finds_this_cluster_well_and_a_wrong_profile_ill(study, tmp_path):
    setup = write_profile(tmp_path, "setup", setup=["module() { return 3; }", "module load cuda"])
    output = harness(tmp_path, "doctor", "grids/table2.yaml", "--scale", "smoke", *setup, fails=True)
    for words in (
        "✗ setup: 'return 3' failed with 3",
        "✓ what a training asks: fits gpu, and SLURM would take it",
        "✓ locks:",
        "✓ permissions:",
        "✓ clocks:",
        "✓ SLURM:",
        "✓ partition gpu:",
        "✓ all-reduce: 2 processes",
        "✓ shared folder:",
        "✓ data and weights",
    ):
        assert words in output
    wrong = write_profile(tmp_path, "wrong", partitions={"gpus": {}, "low": {"cpus": 64}})
    output = harness(tmp_path, "doctor", *wrong, fails=True)
    assert "✗ partition gpus: SLURM has no such partition; did you mean 'gpu'?" in output
    assert "✗ partition low: the profile says cpus: 64, SLURM says 2" in output
    unknown = write_profile(tmp_path, "unknown", exclude=["node017"])
    assert "✗ what a training asks: SLURM would not take it: allocation failure: Invalid" in harness(
        tmp_path, "doctor", *unknown, fails=True
    )
