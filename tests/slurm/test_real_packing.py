"""Through a real SLURM: many small trainings in few jobs, and a queue that takes few of them at a time."""

import os
import shutil

import pytest
import yaml
from support.programs import write_program
from support.real_slurm import at_once, harness, metrics_of, queued_jobs, records, slurm, wait_for, write_profile

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def tiny(tmp_path) -> tuple[str, ...]:
    """Words for a grid of one training, which takes one step and draws sixteen images once."""
    text = (tmp_path / "grids" / "scales" / "smoke.yaml").read_text()
    for before, after in (("scale: smoke", "scale: tiny"), ("{20: 5", "{20: 1"), ("samples: 64", "samples: 16")):
        text = text.replace(before, after)
    (tmp_path / "grids" / "scales" / "tiny.yaml").write_text(text)
    content = yaml.safe_load((tmp_path / "grids" / "convergence.yaml").read_text())
    content |= {"table": "tiny", "vary": [{"product": {"epochs": ["20"], "arm": ["baseline"]}}], "paper": []}
    content["base"] |= {"model": "SiT-S/8", "sampler": {"method": "euler", "intervals": 1, "guidance": 1.0}}
    (tmp_path / "grids" / "tiny.yaml").write_text(yaml.safe_dump(content))
    return "grids/tiny.yaml", "--scale", "tiny", "--study"


def test_thirty_trainings_are_three_jobs_and_one_that_is_stopped_goes_on(study, tiny, tmp_path):
    words = ("submit", *tiny, study, "--set", f"seeds={list(range(30))}", *write_profile(tmp_path, "plain"))
    harness(tmp_path, *words, "--set", "resources.trainings_per_job=12", "--set", "resources.hours=0.4")
    jobs = [job.id for job in queued_jobs(study)]
    assert len(jobs) == 3
    wait_for(lambda: len(metrics_of(tmp_path, study)) > 2)
    slurm("scancel", "--signal=USR2", jobs[0])  # its worker stops, and what it has not begun is not begun
    wait_for(lambda: any(job.state == "PENDING" for job in queued_jobs(study) if job.id == jobs[0]), seconds=60)
    wait_for(lambda: at_once(jobs) or not queued_jobs(study), seconds=600)
    assert len(metrics_of(tmp_path, study)) == 30
    assert not list(tmp_path.glob(f"results/{study}/*/error.json"))


def test_a_queue_of_three_makes_thirty_trainings_unattended_and_sends_each_once(study, tiny, tmp_path):
    """SLURM's own limit, MaxSubmitJobs, is played by a program before sbatch that refuses in its words."""
    (tmp_path / "bin").mkdir()
    words = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
    count = f"squeue --noheader --array --name=$(squeue --noheader --format=%j | grep ^{study}- | paste -sd,) | wc -l"
    full = f"squeue --noheader --format=%j | grep -q ^{study}- && [ $({count}) -ge 3 ]"
    refusal = f'if {full}; then echo "sbatch: error: {words}" >&2; exit 1; fi'
    write_program(tmp_path / "bin", "sbatch", refusal, f'exec {shutil.which("sbatch")} "$@"')
    profile = write_profile(tmp_path, "few", study_throttle=3)
    words = (*tiny, study, "--set", f"seeds={list(range(30))}", "--set", "resources.trainings_per_job=6", *profile)
    output = harness(tmp_path, "submit", *words, "--watch", PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert len(records(tmp_path, study)) == 30
    wait_for(lambda: not queued_jobs(study))
    assert len(metrics_of(tmp_path, study)) == 30
    assert sum(int(line.split()[1]) for line in output.splitlines() if line.startswith("Submitted")) == 30
