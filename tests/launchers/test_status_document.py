"""Every way in which a training that was sent to SLURM can stand, in the JSON of `harness status` and its schema."""

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.jobs import jobs_of, submission
from support.places import GRIDS, ROOT
from support.programs import answer, write_program
from support.synthetic_study import write_measurement

from harness.cli import cli
from harness.config.grid import load_table
from harness.config.spec import eval_id
from harness.files import write_json
from harness.launchers.pending import pending, reasons
from harness.launchers.queue_status import output_path
from harness.launchers.status_document import StatusDocument, TrainingDocument, schema
from harness.store.records import Attempt, Environment, Failure, Heartbeat


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    job = jobs_of(tmp_path, "convergence", "seeds=[0]")[0]
    job.store.record_grid("convergence", GRIDS / "convergence.yaml", "smoke", ["seeds=[0]"])
    answer(tmp_path, monkeypatch, squeue="", sacct="", scontrol="PrivateData = jobs")
    return job


def told(job) -> TrainingDocument:
    """Return what `harness status --json` prints of a training."""
    words = ("status", job.store.study, "--results", job.store.results, "--scratch", job.store.scratch, "--json")
    output = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False).stdout
    return next(t for t in StatusDocument.model_validate_json(output).trainings if t.train_id == job.train_id)


def in_queue(state: str, reason: str = "None", user: int | None = None) -> str:
    return f"7_3|{state}|{reason}|{os.geteuid() if user is None else user}|study-0"


def beat(job, host: str, age: float, written: float = 0, **more: str) -> None:
    """Leave a sign of life that is so old by the clock of its host, and was written so long ago."""
    sign = {"phase": "training", "step": 9, "total": 20, "time": time.time() - age, "host": host, "pid": 1, **more}
    write_json(job.folder / Heartbeat.FILE, sign)
    os.utime(job.folder / Heartbeat.FILE, (time.time() - written,) * 2)


MINE = {"slurm_job": "7_3"}
NODE = "a-node"


@pytest.mark.parametrize(
    ("squeue", "sacct", "sign", "state", "words", "can_start"),
    [
        (in_queue("PENDING", "Resources"), "", None, "waiting", "nodes that can take it are in use (Resources)", True),
        (in_queue("PENDING", "PartitionDown"), "", None, "waiting", "the partition is down", False),
        (in_queue("PENDING", "QOSMaxCpuPerJobLimit"), "", None, "waiting", "allows a job", False),
        (in_queue("PENDING", "QOSMaxJobsPerUserLimit"), "", None, "waiting", "runs as much as it may", True),
        (in_queue("PENDING", "SomethingNew"), "", None, "waiting", "SomethingNew", True),
        (in_queue("PENDING", "JobHeldUser"), "", None, "held", "it is held", True),
        (in_queue("CONFIGURING"), "", None, "starting", "no sign of life yet", True),
        (in_queue("RUNNING"), "", (NODE, 0, 0, {}), "running", "", True),
        (in_queue("RUNNING"), "", (NODE, 500, 0, MINE), "running", "the clock of a-node is 8 min 20 s behind", True),
        (in_queue("RUNNING"), "", (NODE, -500, 0, MINE), "running", "the clock of a-node is 8 min 20 s ahead", True),
        (in_queue("RUNNING"), "", (NODE, 500, 500, MINE), "starting", "no sign of life yet", True),
        (in_queue("SUSPENDED"), "", None, "suspended", "lets it go on later", True),
        (in_queue("COMPLETING"), "", (NODE, 9, 9, MINE), "ending", "COMPLETING", True),
        ("", "7_3|FAILED|n1", (NODE, 9, 9, MINE), "failed", "SLURM: FAILED", True),  # its last sign is no life
        ("", "7_3|FAILED|n1", None, "failed", "before anything of the harness began; its output ends: no torch", True),
        ("", "7_3|NODE_FAIL|n1", None, "failed", "SLURM: NODE_FAIL", True),
    ],
)
def test_what_the_files_and_slurm_tell_is_joined_alike_for_whoever_looks(
    job, tmp_path, squeue, sacct, sign, state, words, can_start
):
    evaluations = tuple(eval_id(job.train_id, e) for e in job.evaluations)
    submission(3, "7_3", evaluations=evaluations, user="nobody").write(job.scratch)
    write_program(tmp_path, "squeue", f"echo '{squeue}'" if squeue else "")
    write_program(tmp_path, "sacct", f"echo '{sacct}'")
    output = output_path(job.store, "7_3")
    output.parent.mkdir(parents=True)
    output.write_text("loading\nno torch\n")
    if sign:
        beat(job, *sign[:3], **sign[3])
    training = told(job)
    assert training.state == state
    assert words in (training.slurm.message or training.phase)
    assert training.slurm.can_start is can_start
    assert training.slurm.job == "7_3"


def test_a_training_whose_job_is_at_work_on_others_waits_for_it(job, tmp_path):
    submission(3, "7_3").write(job.scratch)
    submission(3, "7_3").write(job.store.scratch_folder("0" * 12))
    write_program(tmp_path, "squeue", f"echo '{in_queue('RUNNING')}'")
    assert (told(job).state, told(job).slurm.can_start) == ("waiting", True)
    assert told(job).slurm.message == "its job runs, which is for 2 trainings, and has not come to this one"
    beat(job, NODE, 0, **MINE)
    assert told(job).state == "running"


def leave_interrupted(job) -> None:
    beat(job, NODE, 500, 500)


def leave_diverged(job) -> None:
    Failure(kind="diverged", message="loss not finite").write(job.folder)


def leave_unreadable(job) -> None:
    write_json(job.store.eval_path(job.train_id, eval_id(job.train_id, job.evaluations[0])), {})


def leave_done(job) -> None:
    for run in load_table(GRIDS / "convergence.yaml", "smoke", ("seeds=[0]",)).runs:
        if run.train_id == job.train_id:
            write_measurement(job.store, run, 3.0)


@pytest.mark.parametrize(
    ("leave", "state"),
    [
        (lambda job: None, "not run"),
        (leave_interrupted, "interrupted"),
        (leave_diverged, "diverged"),
        (leave_unreadable, "unreadable"),
        (leave_done, "done"),
    ],
)
def test_what_the_files_alone_tell_is_in_the_document_too(job, leave, state):
    leave(job)
    assert told(job).state == state


def test_a_job_of_another_that_slurm_tells_nobody_of_is_unknown_and_an_own_one_killed(job):
    submission(3, "7_3", user="nobody").write(job.scratch)
    assert (told(job).state, told(job).slurm.failure) == ("unknown", None)
    submission(3, "7_3").write(job.scratch)
    assert (told(job).state, told(job).slurm.failure) == ("failed", "killed")


def test_a_failure_is_of_the_job_that_it_names_whatever_the_clocks_say(job, tmp_path):
    write_program(tmp_path, "sacct", "echo '7_3|TIMEOUT|n1'")
    submission(3, "7_3", time=2e9).write(job.scratch)  # by a clock that is years ahead
    Environment(attempts=[Attempt(slurm_job_id="7_3")]).write(job.folder)
    failure = Failure(kind="bug", message="KeyError", time=1e9, slurm_job="7_3")
    failure.write(job.folder)
    assert told(job).slurm.failure == "bug"
    failure.model_copy(update={"slurm_job": "6"}).write(job.folder)
    assert told(job).slurm.failure == "time limit"


def test_a_remedy_is_told_that_helps(job, tmp_path):
    submission(3, "7_3").write(job.scratch)
    words = ("status", job.store.study, "--results", str(job.store.results), "--scratch", str(job.store.scratch))
    write_program(tmp_path, "squeue", f"echo '{in_queue('PENDING', 'PartitionTimeLimit')}'")
    output = CliRunner().invoke(cli, words, catch_exceptions=False).stdout
    assert "1 waits: it asks for more time than the partition allows (PartitionTimeLimit); as it is" in output
    assert f"→ harness cancel {job.store.study} " in output
    assert "--class cancelled --set resources.hours=…\n" in output
    write_program(tmp_path, "squeue", f"echo '{in_queue('PENDING', 'JobHeldAdmin')}'")
    output = CliRunner().invoke(cli, words, catch_exceptions=False).stdout
    assert "→ scontrol release 7_3\n" in output
    assert "retry" not in output


def test_each_reason_is_found_by_its_own_word():
    for known in reasons():
        if known.reason.isidentifier():
            assert pending(known.reason).words.startswith(known.words)
            assert known.mend or not (known.never or known.held)


def test_the_schema_in_the_documentation_is_that_of_what_is_printed():
    assert Path(ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8") == schema(), "make docs"
