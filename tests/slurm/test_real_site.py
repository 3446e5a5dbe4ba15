"""Through a real SLURM: what a site needs beside resources."""

import sys

import pytest
from support.programs import write_program
from support.real_slurm import (
    at_once,
    harness,
    logs,
    metrics_of,
    queued_jobs,
    slurm,
    wait_for,
    write_grid,
    write_profile,
    write_scale,
)  # fmt: skip

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.long
def test_a_training_in_a_container_reads_staged_data_and_is_queued_again_without_slurms_programs(study, tmp_path):
    """The container is a program that notes what it is told and starts the rest where nothing is on PATH."""
    write_scale(tmp_path, "steady", 200)
    grid, words = write_grid(tmp_path, "site", 0.0101), ("--scale", "steady", "--study")
    (tmp_path / "bin").mkdir()
    noted = f'echo "$1 $2" >> {tmp_path}/noted; shift 3'
    write_program(tmp_path / "bin", "apptainer", noted, 'PATH=/nowhere exec "$@"')
    python = tmp_path / "bin" / "our-python"
    write_program(tmp_path / "bin", "our-python", f'exec {sys.executable} "$@"')
    profile = write_profile(
        tmp_path, "site", container={"runtime": "apptainer", "image": "/an/image.sif"}, python=str(python),
        stage_data=str(tmp_path / "disk"), setup=[f"export PATH={tmp_path}/bin:$PATH"],
    )  # fmt: skip
    harness(tmp_path, "run", grid, *words, "inline")
    harness(tmp_path, "submit", grid, *words, study, *profile)
    (job,) = [job.id for job in queued_jobs(study)]
    wait_for(lambda: any(len(log) > 50 for log in logs(tmp_path, study).values()))
    slurm("scancel", "--signal=USR2", job)
    wait_for(lambda: [queued.state for queued in queued_jobs(study)] == ["PENDING"], seconds=60)
    assert [queued.state for queued in queued_jobs(study)] == ["PENDING"]
    wait_for(lambda: at_once([job]) or not queued_jobs(study))
    assert metrics_of(tmp_path, study) == metrics_of(tmp_path, "inline")
    bind = f"exec --bind={tmp_path}/results,{tmp_path}/scratch"
    assert (tmp_path / "noted").read_text().count(bind) == 2
    (output,) = tmp_path.glob(f"scratch/{study}/slurm/*_log.out")
    assert output.read_text().count("data set digits copied to") == 1
    assert "queued again by the shell outside" in output.read_text()


def test_a_last_job_makes_the_report_and_somebody_hears_of_what_failed_and_of_the_end(study, tmp_path):
    write_program(tmp_path, "hear", f'echo "$1" >> {tmp_path}/heard')
    profile = write_profile(
        tmp_path, "told", notify={"command": [str(tmp_path / "hear"), "{event} {text}"]},
        resources={"partition": "gpu", "memory_gb": 4},
    )  # fmt: skip
    words = ("grids/convergence.yaml", "--scale", "smoke", "--study", study, *profile)
    diverging = ("--set", "optimizer.learning_rate=1.0e+30")
    shown = harness(tmp_path, "submit", *words, *diverging, "--report", "--dry-run")
    assert f"#SBATCH --job-name={study}-last\n" in shown
    output = harness(tmp_path, "submit", *words, *diverging, "--report", "--reports", str(tmp_path / "reports"))
    assert "When these have ended, job " in output
    wait_for(lambda: not queued_jobs(study))
    heard = (tmp_path / "heard").read_text().splitlines()
    assert sorted(line.partition(" ")[0] for line in heard) == ["end", "failure", "failure"]
    assert heard[-1].startswith(f"end {study}: 0 of 2 trainings are done, 2 failed; harness status {study} tells why")
    assert (tmp_path / "reports" / study / "index.html").is_file()
