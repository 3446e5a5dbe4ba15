"""Through a real SLURM: a training's images drawn in shards by jobs of their own, and measured by one after them."""

import json

import pytest
from support.real_slurm import harness, metrics_of, queued_jobs, slurm, wait_for, write_grid, write_profile

from harness.files import read_json

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def ids_of(folder, study: str) -> dict[str, str]:
    """Return SLURM's ids of a training's jobs, by their parts."""
    records = [read_json(path) for path in folder.glob(f"scratch/{study}/*/**/submission.json")]
    return {record["part"]: record["job"] for record in records}


@pytest.mark.long
def test_a_killed_shard_costs_itself_and_the_numbers_are_those_of_one_job(study, tmp_path):
    grid = write_grid(tmp_path, "one", 0.13)
    words = (grid, "--scale", "smoke", "--set", "evaluation.samples=192", "--study")  # three tiles
    harness(tmp_path, "run", *words, "inline")
    stuck = tmp_path / "stuck"
    stuck.touch()
    waits = [f'[ "$SLURM_ARRAY_TASK_ID" = 1 ] && [ -e {stuck} ] && sleep 600']
    profile = write_profile(tmp_path, "waits", setup=waits)
    output = harness(tmp_path, "submit", *words, study, "--set", "resources.sample_shards=3", *profile)
    assert "Submitted 1 trainings in 5 jobs as 3 array(s)" in output
    ids = ids_of(tmp_path, study)
    drawn = f"scratch/{study}/*/parts/*/samples-*.json"
    wait_for(lambda: len(list(tmp_path.glob(drawn))) == 2)
    (training,) = json.loads(harness(tmp_path, "status", study, "--json"))["trainings"]
    assert (training["state"], training["slurm"]["job"]) == ("starting", ids["sample-2-of-3"])
    slurm("scancel", "--signal=KILL", "--full", ids["sample-2-of-3"])
    wait_for(lambda: not queued_jobs(study))  # the measuring, which can never begin, has left the queue too
    assert not metrics_of(tmp_path, study)
    output = harness(tmp_path, "status", study)
    assert f" failed: killed, SLURM job {ids['sample-2-of-3']}: shard 2 of 3: SLURM: " in output
    stuck.unlink()
    harness(tmp_path, "retry", study, "--failed")
    again = ids_of(tmp_path, study)
    assert {part for part in ids if ids[part] != again[part]} == {"sample-2-of-3", "measure-of-3"}
    wait_for(lambda: metrics_of(tmp_path, study) and not queued_jobs(study))
    assert metrics_of(tmp_path, study) == metrics_of(tmp_path, "inline")
    assert not list(tmp_path.glob(drawn))
    (environment,) = [read_json(path) for path in tmp_path.glob(f"results/{study}/*/env.json")]
    parts = [attempt["part"] for attempt in environment["attempts"]]
    assert sorted(parts) == ["measure-of-3", "sample-1-of-3", "sample-2-of-3", "sample-3-of-3", "train"]
