"""Through a real SLURM: many small trainings in few jobs, and a queue that takes few of them at a time."""

import subprocess
import time

import pytest
import yaml
from support.real_slurm import at_once, harness, metrics_of, queued_jobs, records, slurm, start, wait_for, write_profile

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


def in_account() -> list[str]:
    """Return what the queue holds of the account that may have three jobs."""
    return slurm("squeue", "--account=limited", "--noheader", "--array", "--format=%i").split()


def test_an_account_of_three_jobs_makes_thirty_trainings_unattended_and_each_once(study, tiny, tmp_path):
    """SLURM enforces the limit (MaxSubmitJobs); at first the queue is full of other jobs."""
    others = ["sbatch", "--account=limited", f"--job-name={study}-other", "--output=/dev/null", "--wrap", "sleep 5"]
    fourth = [subprocess.run(others, capture_output=True, text=True) for _ in range(4)][-1]
    assert fourth.stderr.startswith("sbatch: error: AssocMaxSubmitJobLimit\n")
    words = (*tiny, study, "--set", f"seeds={list(range(30))}", "--set", "resources.trainings_per_job=6")
    sending = start(tmp_path, "submit", *words, *write_profile(tmp_path, "few", account="limited"), "--watch")
    most = 0
    while sending.runs():
        most = max(most, len(in_account()))
        time.sleep(0.5)
    output, _ = sending.communicate()
    assert (sending.returncode, most) == (0, 3), output
    assert sum(int(line.split()[1]) for line in output.splitlines() if line.startswith("Submitted")) == 30
    assert len(records(tmp_path, study)) == 30
    wait_for(lambda: not queued_jobs(study))
    assert len(metrics_of(tmp_path, study)) == 30
    assert len({record["job"] for record in records(tmp_path, study).values()}) == 5
