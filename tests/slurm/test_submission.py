"""What is sent: each job once, no more than the queue may hold, and what measurements need no training."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import jobs_of, submission
from support.places import ROOT
from support.programs import answer, write_program

from harness.config.cluster_profile import SlurmProfile
from harness.errors import UserError
from harness.slurm.submission import measurement_jobs, snapshot, submit


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Thirteen jobs, and a SLURM that holds one of them and takes others three at a time."""
    answer(tmp_path, monkeypatch, squeue="7_3|PENDING|None|study-0\n8|RUNNING|None|another", srun="")
    counted = f"echo >> {tmp_path}/calls; echo Submitted batch job $((8 + $(wc -l < {tmp_path}/calls)))"
    write_program(tmp_path, "sbatch", counted)
    return jobs_of(tmp_path, "table2")


def test_no_more_is_sent_than_the_queue_may_hold_and_a_lost_id_is_found(jobs):
    store, first = jobs[0].store, jobs[0].train_id
    submission(3).write(store.scratch_folder(first))  # nobody knows its id
    sent = submit(jobs, SlurmProfile(max_submitted=7, array_limit=3), [])
    assert (len(sent.queued), len(sent.ids), len(sent.later)) == (1, 5, 7)
    assert (sent.with_less, sent.arrays) == (sent.queued, ["9", "10"])
    records = store.submissions()
    assert records.pop(first).job == "7_3"
    assert sorted(record.job for record in records.values()) == sorted(sent.ids)
    assert all((store.slurm_folder / id / f"{id}_submitted.pkl").is_file() for id in sent.ids)


def test_what_sbatch_refuses_is_not_recorded_and_ended_where_slurm_took_it_all_the_same(jobs, tmp_path):
    store, first = jobs[0].store, jobs[0].train_id
    before = submission(None, "5", token="study-1")
    before.write(store.scratch_folder(first))
    taken = "sed -n 's/^#SBATCH --job-name=/11|PENDING|None|/p' $1"
    write_program(tmp_path, "sbatch", f"{taken} > {tmp_path}/queue; echo 'error: the answer was lost' >&2; exit 1")
    write_program(tmp_path, "squeue", f"[ ! -e {tmp_path}/queue ] || cat {tmp_path}/queue")
    write_program(tmp_path, "scancel", f"echo $* > {tmp_path}/ended")
    with pytest.raises(UserError, match=r"refused array 1 of 1: .*the answer was lost.*\(job none\); not sent: 13"):
        submit(jobs, SlurmProfile(array_limit=100), [])
    assert store.submissions() == {first: before}
    assert (tmp_path / "ended").read_text() == "11\n"


def test_only_what_is_trained_is_measured_by_one_process(tmp_path):
    jobs = jobs_of(tmp_path, "table2")
    assert measurement_jobs(jobs) == []
    shared = replace(jobs[0], resources=jobs[0].resources.model_copy(update={"nodes": 2, "gpus": 4}))
    shared.scratch.mkdir(parents=True)
    (shared.scratch / f"weights-{shared.steps:08d}.safetensors").touch()
    (measuring,) = measurement_jobs([shared, *jobs[1:]])
    assert (measuring.resources.nodes, measuring.resources.team, measuring.resources.gpus) == (1, 1, 1)
    assert measuring.evaluations == shared.evaluations


# The code that a job runs is what was sent, wherever it starts and whatever happens to the tree.


def test_a_copy_of_the_code_is_what_a_job_imports_wherever_it_starts(tmp_path, monkeypatch):
    grids = tmp_path / "ours"
    grids.mkdir()
    (grids / "untracked.yaml").write_text("a: 1")
    monkeypatch.chdir(ROOT)
    code = snapshot([grids], tmp_path / "logs")
    code.take()
    code.take()  # the second submission finds it
    (grids / "untracked.yaml").write_text("a: 2")
    assert (code.folder / "ours" / "untracked.yaml").read_text() == "a: 1"
    assert snapshot([grids], tmp_path / "logs").folder != code.folder
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [code.folder.name]
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, pathlib, harness\nfrom harness.jobs.recording import source\n"
        "print(harness.__file__, source(pathlib.Path(sys.argv[1])))\n"
    )
    command = f"{code.setup}; {sys.executable} {program} {tmp_path}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{code.folder}/harness/__init__.py")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert head in done.stdout


@pytest.mark.parametrize("folder", [".", "..", "elsewhere/../.."])
def test_a_grid_beside_ones_work_is_copied_alone_and_into_the_copy(tmp_path, monkeypatch, folder):
    work = tmp_path / "work"
    for name in ("table.yaml", "scales/smoke.yaml", "scratch/study/large", "notes.txt", "here/elsewhere/x"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("a: 1")
    monkeypatch.chdir(work / "here" if folder != "." else work)
    code = snapshot([Path(folder)], tmp_path / "logs")
    copied = {name for name in code.files if not name.startswith("harness/")}
    assert copied == {"work/table.yaml", "work/scales/smoke.yaml"}
    code.take()
    assert all((code.folder / name).is_file() for name in code.files)
