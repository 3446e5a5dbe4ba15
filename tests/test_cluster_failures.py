"""Failures are told apart, and a retry takes those that it is asked for."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from harness.cli import cli
from harness.errors import Diverged, UserError
from harness.grid import load_table
from harness.launch.condition import _condition
from harness.launch.failures import CAUSES, ENDS, class_of, remedy
from harness.launch.job import jobs_for
from harness.launch.output import failures
from harness.launch.queue import Queued
from harness.launch.submission import Submission, write_submission
from harness.launch.worker import WorkerError
from harness.store import Store

GRID = Path(__file__).parents[1] / "grids" / "table2.yaml"


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
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_what_a_run_raised_has_its_class(job, error, kind):
    assert class_of(error) == kind
    job.fail(error)
    condition = _condition(job, None, (), {})
    assert (condition.state, condition.kind) == ("failed", kind)
    assert failures(job.store, 3)[0].startswith(f"{job.train_id}: {kind}\n")
    assert kind == "diverged" or kind in CAUSES


def test_the_cpus_allocator_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert class_of(caught.value) == "out of memory"


@pytest.mark.parametrize(("end", "kind"), [*ENDS.items(), ("COMPLETED", None)])
def test_what_left_no_word_has_the_class_that_slurm_tells(job, end, kind):
    record = Submission("study-0", 3, (), 0.0, "7_3")
    condition = _condition(job, record, (), {"7_3": end})
    assert condition.kind == kind
    assert kind is None or remedy(kind, "study").startswith(("harness retry study --only", "the same seed"))


def test_a_job_in_the_queue_is_no_failure_whatever_came_before(job):
    job.fail(ZeroDivisionError())
    record = Submission("study-0", 3, (), 0.0)
    assert _condition(job, record, [Queued("7_3", "study-0", "PENDING")], {}).state == "queued"
    assert _condition(job, record, [Queued("7_4", "study-0", "PENDING")], {}).kind == "bug"
    assert _condition(job, record, [Queued("7_3", "study-1", "PENDING")], {}).kind == "bug"


def test_a_cancelled_job_does_nothing_under_slurm_and_is_not_queued_again(job, monkeypatch):
    write_submission(job.store, job.train_id, Submission("study-0", None, (), 0.0, "7", cancelled=True))
    assert not job.cancelled()  # `harness run` is not SLURM's
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert job.cancelled()
    assert job.checkpoint() is None


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
