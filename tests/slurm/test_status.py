"""Failures are told apart, and a retry takes those that it is asked for."""

import errno
import shutil
import time
from pathlib import Path
from subprocess import CalledProcessError

import pytest
import torch
from click.testing import CliRunner
from safetensors import SafetensorError
from support.places import GRIDS
from support.synthetic_study import full_study, new_store, table_of

from harness.cli import cli
from harness.commands.options import study_options
from harness.config.grid import load_table
from harness.config.spec import eval_id
from harness.errors import Diverged, UserError
from harness.files import read_json, write_json
from harness.jobs.failures import CAUSES, ENDS, class_of, remedy
from harness.jobs.job import jobs_for
from harness.jobs.local_pool import WorkerError
from harness.jobs.recording import HeartbeatThread
from harness.slurm.client import SlurmJob
from harness.slurm.logs import describe, failures
from harness.slurm.status import Answer, status_of
from harness.slurm.task import SlurmTask
from harness.store.store import RunStatus, Store
from harness.store.submissions import Submission, write_submission

GRID = GRIDS / "table2.yaml"


def holding(*words: str) -> Answer:
    job = SlurmJob(*words)
    return Answer({job.place: job})


@pytest.fixture
def job(tmp_path):
    runs = load_table(GRID, "smoke").runs
    return jobs_for(runs, Store(tmp_path / "results", tmp_path / "scratch", "study"), tmp_path / "data")[0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged("loss not finite"), "diverged"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (UserError("data set digits: its files are torn"), "bad data"),
        (WorkerError("a process was killed"), "killed"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk full"),
        (CalledProcessError(1, ["scontrol", "requeue", "7_3"]), "time limit"),
        (CalledProcessError(1, ["git", "log"]), "bug"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_what_a_run_raised_has_its_class(job, error, kind):
    assert class_of(error) == kind
    job.fail(error)
    condition = status_of(job, None, Answer())
    assert (condition.state, condition.failure) == ("failed", kind)
    assert failures(job.store, 3)[0].startswith(f"{job.train_id}: {kind}\n")
    assert kind == "diverged" or kind in CAUSES


def test_the_cpus_allocator_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert class_of(caught.value) == "out of memory"


@pytest.mark.parametrize(("end", "kind"), [*ENDS.items(), ("COMPLETED", None)])
def test_what_left_no_word_has_the_class_that_slurm_tells(job, end, kind):
    record = Submission("study-0", 3, (), 0.0, "7_3")
    condition = status_of(job, record, Answer(ends={"7_3": end}))
    assert condition.failure == kind
    assert kind is None or remedy(kind, "study").startswith(("harness retry study --only", "the same seed"))


def test_a_job_in_the_queue_is_no_failure_whatever_came_before(job):
    job.fail(ZeroDivisionError())
    record = Submission("study-0", 3, (), 0.0)
    assert status_of(job, record, holding("7_3", "study-0", "PENDING")).state == "queued"
    assert status_of(job, record, holding("7_3", "study-0", "RUNNING")).state == "starting"
    stuck = status_of(job, record, holding("7_3", "study-0", "PENDING", "launch failed requeued held"))
    assert (stuck.state, stuck.message) == ("held", "launch failed requeued held")
    assert status_of(job, record, holding("7_3", "study-0", "PENDING", "Resources")).state == "queued"
    assert status_of(job, record, holding("7_4", "study-0", "PENDING")).failure == "bug"
    assert status_of(job, record, holding("7_3", "study-1", "PENDING")).failure == "bug"


def test_a_failure_of_before_the_last_submission_is_not_the_reason(job):
    job.fail(ZeroDivisionError())
    record = Submission("study-0", 3, (), time.time() + 1, "7_3")
    assert status_of(job, record, Answer(ends={"7_3": "TIMEOUT"})).failure == "time limit"


def test_a_job_that_slurm_forgot_or_that_ended_with_nothing_is_told_so(job):
    sent = Submission("study-0", 3, tuple(eval_id(job.train, e) for e in job.evaluations), 0.0, "7_3")
    assert status_of(job, sent, Answer()).message == "nothing tells of its end"
    assert status_of(job, sent, Answer(ends={"7_3": "COMPLETED"})).message.startswith("it ended without its results")
    assert status_of(job, sent, Answer(silent=True)).state == "unknown"
    assert status_of(job, None, Answer(silent=True)).state == "waiting for a command"


def test_a_beat_is_believed_unless_slurm_has_queued_the_job_again(job):
    sent = Submission("study-0", 3, (), 0.0, "7_3")
    with HeartbeatThread(job.store.run_folder(job.train_id), 5):
        assert status_of(job, sent, Answer(silent=True)).state == "running"
        assert status_of(job, sent, holding("7_3", "study-0", "RUNNING")).state == "running"
        assert status_of(job, sent, holding("7_3", "study-0", "PENDING")).state == "queued"


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_a_failure_takes_the_room_of_the_last_sign_of_life(job, monkeypatch):
    sign = job.store.run_folder(job.train_id) / "heartbeat.json"
    write_json(sign, {"phase": "training", "step": 7, "total": 9, "time": 0.0, "host": "elsewhere", "pid": 1})

    def write(path, content):
        if sign.exists() or len(str(content)) > 4000:
            raise FULL
        write_json(path, content)

    monkeypatch.setattr("harness.store.records.write_json", write)
    full = OSError(errno.ENOSPC, "No space left on device")
    full.__cause__ = ValueError("long " * 2000)
    job.fail(full)
    condition = status_of(job, None, Answer())
    assert (condition.state, condition.failure) == ("failed", "disk full")
    assert read_json(sign.with_name("error.json"))["step"] == 7


def test_a_full_disk_that_nothing_can_be_written_to_is_told_by_the_jobs_output(job, monkeypatch, capfd):
    def refuse(*_):
        raise FULL

    monkeypatch.setattr("harness.store.records.write_json", refuse)
    outcome = job.fail(FULL)
    assert outcome.state == "failed"
    assert "could not be stored" in outcome.reason
    sent = Submission("study-0", 3, tuple(eval_id(job.train, e) for e in job.evaluations), 0.0, "7_3")
    write_submission(job.store, job.train_id, sent)
    output = job.store.scratch / "study" / "slurm" / "7_3" / "7_3_0_log.out"
    output.parent.mkdir(parents=True)
    output.write_text("")
    ends = Answer(ends={"7_3": "COMPLETED"})
    assert status_of(job, sent, ends).failure == "killed"
    output.write_text(capfd.readouterr().err)
    assert status_of(job, sent, ends).failure == "disk full"
    assert status_of(job, sent, Answer(ends={"7_3": "FAILED"})).failure == "disk full"
    assert status_of(job, sent, Answer(ends={"7_3": "TIMEOUT"})).failure == "time limit"


def test_a_cancelled_job_does_nothing_under_slurm_and_is_not_queued_again(job):
    write_submission(job.store, job.train_id, Submission("study-0", None, (), 0.0, "7", cancelled=True))
    task = SlurmTask(job)
    assert task() == RunStatus("skipped", "cancelled")
    assert task.checkpoint() is None


def test_advice_names_the_folders_that_were_given_and_the_grid_of_what_diverged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("grids", "clusters"):
        shutil.copytree(GRID.parents[1] / folder, tmp_path / folder)
    words = ["run", "grids/convergence.yaml", "--scale", "smoke", "--study", "study", "--results", "else where"]
    monkeypatch.setattr("harness.jobs.local_pool.run_inline", lambda jobs, _: [job.fail(Diverged("x")) for job in jobs])
    ran = CliRunner().invoke(cli, [*words, "--set", "optimizer.learning_rate=9", "--set", "batch=16"])
    assert "2 of 2 trainings are not done; the reasons: harness status study --results 'else where'\n" in ran.output
    told = CliRunner().invoke(cli, ["status", "study", "--results", "else where"]).output
    assert (
        "in a study of its own, with less: harness run grids/convergence.yaml --scale smoke --set=batch=16 "
        "--study study-2 --results 'else where' --set optimizer.learning_rate=…\n"
    ) in told
    monkeypatch.setenv("HARNESS_RESULTS", "else where")
    assert study_options(Store(Path("else where"), tmp_path / "scratch", "study")) == "study"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say either --failed or --only"),
        (("--failed", "--only", "bug"), "say either --failed or --only"),
        (("--failed", "--set", "batch=2"), "--set batch=2: a retry may change resources"),
    ],
)
def test_a_retry_that_says_too_little_or_too_much_is_refused(words, said):
    result = CliRunner().invoke(cli, ["retry", "study", *words])
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_a_damaged_measurement_is_shown_as_such(tmp_path):
    store, table = new_store(tmp_path), table_of("table3")
    full_study(store, [table])
    run = table.runs[0]
    store.eval_path(run.train_id, run.eval_id).write_text('{"spec": {"st', encoding="utf-8")
    text = describe(store, run.train_id)
    assert f"{run.eval_id}.json\ndamaged; delete it" in text
    assert f"--study {store.study}" in text.split("command\n")[1]
