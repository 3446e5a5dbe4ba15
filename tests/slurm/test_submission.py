"""What is sent: the code as it is now, no more than the queue may hold, and what measurements need no training."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.places import ROOT

from harness.cli import cli
from harness.commands import plan_run_submit
from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.grid import load_table
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.slurm import diagnostics as doctor
from harness.slurm import submission
from harness.slurm.client import SlurmJob, failed_nodes, own_environment, squeue, unfinished_jobs
from harness.slurm.snapshot import snapshot
from harness.slurm.submission import measurement_jobs, submit
from harness.slurm.task import SlurmTask
from harness.store.store import Store
from harness.store.submissions import Submission, read_submission, write_submission


@pytest.fixture
def jobs(tmp_path):
    runs = load_table(ROOT / "grids" / "table2.yaml", "smoke").runs
    return jobs_for(runs, Store(tmp_path / "results", tmp_path / "scratch", "study"), tmp_path / "data")


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
        "import sys, pathlib, harness\nfrom harness.jobs.provenance import source\n"
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


def test_no_more_is_sent_than_the_queue_may_hold_and_a_lost_id_is_found(jobs, monkeypatch):
    write_submission(jobs[0].store, jobs[0].train_id, Submission("study-0", 3, (), 0.0))  # nobody knows its id
    held = [SlurmJob("7_3", "study-0", "PENDING"), SlurmJob("8", "another", "RUNNING")]
    monkeypatch.setattr(submission, "unfinished_jobs", lambda: held)
    monkeypatch.setattr(submission, "check_slurm", lambda: None)
    monkeypatch.setattr(submission, "_send", lambda array, _: [f"9_{i}" for i in range(len(array.jobs))])
    sent = submit(jobs, SlurmProfile(max_submitted=7, array_limit=3), [])
    assert (len(sent.queued), len(sent.ids), len(sent.later)) == (1, 5, 7)
    assert read_submission(jobs[0].store, jobs[0].train_id).job == "7_3"


def test_what_was_sent_is_cancelled_whatever_the_grids_say_now(jobs, tmp_path, monkeypatch):
    store, sent = jobs[0].store, jobs[0].train_id
    told = ["study", "--results", str(store.results), "--scratch", str(store.scratch)]
    (tmp_path / "squeue").write_text("#!/bin/sh\necho '7_3|RUNNING|None|study-0'; echo '8|PENDING|None|other'\n")
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/ended\n")
    for name in ("squeue", "scancel"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match="no study here"):
        CliRunner().invoke(cli, ["cancel", *told, "--yes"], catch_exceptions=False)
    write_submission(store, sent, Submission("study-0", 3, (), 0.0, "7_3"))
    shutil.copytree(store.scratch_folder(sent), store.scratch_folder(sent).with_name("a copy of it"))
    store.record_grid("table5", ROOT / "grids" / "table5.yaml", "smoke", [])  # which does not have it
    said = CliRunner().invoke(cli, ["status", *told], catch_exceptions=False).output
    assert "1 jobs in SLURM's queue are of trainings that no grid of this study wants any more" in said
    assert "Ended 1 jobs" in CliRunner().invoke(cli, ["cancel", *told, "--yes"], catch_exceptions=False).output
    assert read_submission(store, sent).cancelled
    assert (tmp_path / "ended").read_text() == "7_3\n"


@pytest.mark.parametrize(
    ("accounts", "states", "out"),
    [
        (["7|NODE_FAIL|n1"], {"n1": "down*"}, ["n1"]),
        (["7|NODE_FAIL|n1"], {"n1": "idle"}, ["n1"]),  # it works again, and may fail again
        (["7|NODE_FAIL|n1,n2"], {"n1": "drng"}, ["n1"]),
        (["7|NODE_FAIL|n1,n2"], {"n1": "mix-"}, ["n1", "n2"]),
        (["7|NODE_FAIL|n1", "8|NODE_FAIL|n2", "7|RUNNING|n3"], {}, ["n1", "n2"]),
        (["7|NODE_FAIL|n1", "8|NODE_FAIL|n2", "8|NODE_FAIL|n3"], {"n3": "down"}, ["n3"]),  # after a power cut
        (["7|NODE_FAIL|n1", "7|NODE_FAIL|n1"], {"n2": "down", "n3": "drain"}, []),  # no other works
        (["7|NODE_FAIL|n1,n2,n3"], {"n1": "down", "n2": "down", "n3": "down"}, []),
        (["9|NODE_FAIL|n1"], {"n1": "down"}, []),  # another's
    ],
)
def test_nodes_that_failed_are_left_out_while_others_work(tmp_path, monkeypatch, accounts, states, out):
    nodes = [f"{name} {states.get(name, 'alloc')}" for name in ("n1", "n2", "n3")]
    stubs = {"sacct": "\n".join(accounts), "sinfo": "\n".join(nodes)}
    for name, said in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho $3 | tr , '\\n'\n")
    for name in ("sacct", "sinfo", "scontrol"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert failed_nodes(["7", "8"]) == out


def test_a_retry_remembers_what_submit_was_told(tmp_path, monkeypatch):
    (tmp_path / "clusters").mkdir()
    for name in ("ours", "theirs"):
        (tmp_path / "clusters" / f"{name}.yaml").write_text(f"executor: slurm\naccount: {name}\n")
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(plan_run_submit, "send", lambda profile, todo, *_: seen.append((profile.account, todo[0])))
    monkeypatch.setattr(submission, "check_slurm", lambda: None)

    def call(*words: str) -> tuple[str, Path]:
        CliRunner().invoke(cli, words, catch_exceptions=False)
        account, job = seen[-1]
        job.fail(ZeroDivisionError())
        return account, job.data

    data, retry = tmp_path / "elsewhere", ("retry", "smoke", "--failed")
    grid = str(ROOT / "grids" / "table2.yaml")
    assert call("submit", grid, "--scale", "smoke", "--profile", "ours", "--data", "elsewhere") == ("ours", data)
    assert call(*retry) == ("ours", data)
    assert call(*retry, "--profile", "theirs", "--data", "data") == ("theirs", tmp_path / "data")
    monkeypatch.setenv("HARNESS_DATA", "third")
    assert call(*retry) == ("ours", tmp_path / "third")
    with pytest.raises(UserError, match=r"resources\.processes"):
        call(*retry, "--set", "resources.processes=7")
    assert len(seen) == 4


AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
LATE = "slurm_load_jobs error: Socket timed out on send/recv operation"


@pytest.mark.parametrize("words", [AWAY, LATE])
def test_who_acts_waits_for_a_controller_that_is_restarted_and_who_looks_does_not(tmp_path, monkeypatch, jobs, words):
    program = tmp_path / "squeue"
    program.write_text(
        "#!/bin/sh\n"
        "if [ -e back ]; then echo '7_3|RUNNING|None|study-0'; exit; fi\n"
        f"touch back; echo '{words}' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    assert unfinished_jobs() == [SlurmJob("7_3", "study-0", "RUNNING", "None")]
    Path("back").unlink()
    with pytest.raises(UserError, match="SLURM does not answer"):
        squeue()
    Path("back").unlink()
    again = SlurmTask(jobs[0]).checkpoint().function  # before submitit asks SLURM to queue it again
    assert again == SlurmTask(jobs[0], frozenset())
    assert Path("back").exists()
    program.write_text("#!/bin/sh\necho 'something else' >&2; exit 1\n")
    SlurmTask(jobs[0]).checkpoint()  # what cannot be waited for does not stop it


def test_only_what_is_trained_is_measured_by_one_process(jobs):
    assert measurement_jobs(jobs) == []
    shared = replace(jobs[0], resources=jobs[0].resources.model_copy(update={"nodes": 2, "gpus": 4}))
    folder = shared.store.scratch_folder(shared.train_id)
    folder.mkdir(parents=True)
    (folder / f"weights-{shared.steps:08d}.safetensors").touch()
    (found,) = measurement_jobs([shared, *jobs[1:]])
    assert (found.resources.nodes, found.resources.team, found.resources.gpus) == (1, 1, 1)
    assert found.evaluations == shared.evaluations


def test_the_calling_shells_own_job_is_hidden_from_sbatch(monkeypatch):

    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "RANK", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    with own_environment():
        assert {"SLURM_JOB_ID", "SBATCH_PARTITION", "RANK"}.isdisjoint(os.environ)
        assert os.environ["SLURM_CONF"] == "x"
    assert os.environ["SLURM_JOB_ID"] == "x"


def test_the_doctor_reads_what_slurm_says_of_partitions(monkeypatch):
    said = "gpu|up|1-12:30:00|4|64+|512000|gpu:a100:4(S:0-1)\nold|down|infinite|1|8|16000|(null)\n"
    monkeypatch.setattr(doctor, "ask", lambda *_: said)
    has = "hours 36.5, nodes 4, cpus 64, memory_gb 512, gpus 4"
    assert doctor.compare_partition("gpu", Partition(hours=36.5, gpus=4)) == has
    for name, promised, words in (
        ("gpu", Partition(gpus=8), "the profile says gpus: 8, SLURM says 4"),
        ("old", Partition(), "it is down"),
        ("gpus", Partition(), "SLURM has no such partition; did you mean 'gpu'?"),
    ):
        with pytest.raises(UserError) as caught:
            doctor.compare_partition(name, promised)
        assert words in str(caught.value)
