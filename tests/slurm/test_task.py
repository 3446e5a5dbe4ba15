"""A task of SLURM's does nothing once it was cancelled, and is queued again only while it gains something."""

import os
import signal
import time
from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest
import torch
from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmJobEnvironment
from support.jobs import jobs_of, submission
from support.signals import restored_handlers

from harness.config.spec import EvalSpec, TrainSpec
from harness.engine.sample import _draw_tile
from harness.engine.sample_cache import saved_images
from harness.files import read_json, write_json
from harness.jobs.failures import class_of
from harness.jobs.job import Job, jobs_to_json
from harness.method.guidance import CountedNet
from harness.slurm.task import ATTEMPTS, Requeued, RequeuedTask, SlurmTask, TaskPaths, start
from harness.store.status import RunStatus


@pytest.fixture
def job(tmp_path) -> Job:
    return jobs_of(tmp_path, "convergence", "seeds=[0]")[0]


@pytest.mark.parametrize(
    ("record", "array", "cancelled"),
    [
        (submission(None, "7", cancelled=True), {}, True),
        (submission(None, None, cancelled=True), {}, True),  # nobody lived to write down its id
        (submission(None, "7"), {}, False),
        (submission(None, "8", cancelled=True), {}, False),  # one that was sent after it
        (submission(None, "8", cancelled_before=("7",)), {}, True),  # and SLURM queues it again
        (submission(3, "9_3", cancelled=True), {"ARRAY_JOB_ID": "9", "ARRAY_TASK_ID": "3"}, True),
        (submission(3, "9_3", cancelled=True), {"ARRAY_JOB_ID": "9", "ARRAY_TASK_ID": "4"}, False),
    ],
)
def test_a_job_that_was_cancelled_itself_does_nothing_and_is_not_queued_again(
    job, monkeypatch, record, array, cancelled
):
    for name, value in {"JOB_ID": "7", "JOB_NAME": "study-0", **array}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    record.write(job.scratch)
    task = SlurmTask((job,))
    assert task.cancelled() is cancelled
    if cancelled:
        assert task() == RunStatus("skipped", "cancelled")
        assert task.checkpoint() is None


def test_each_element_of_an_array_makes_the_trainings_that_share_its_gpu(tmp_path, monkeypatch):
    sharing = jobs_of(tmp_path, "table2", "resources.gpus=1", "resources.jobs_per_gpu=5")  # 13 of them
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(SlurmTask, "__call__", lambda task: made.append(tuple(job.train_id for job in task.jobs)))
    for name, value in (("SUBMITIT_EXECUTOR", "slurm"), ("SUBMITIT_FOLDER", "changed by it"), ("SLURM_JOB_ID", "7")):
        monkeypatch.setenv(name, value)
    with restored_handlers():
        for element in range(3):
            monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(element))
            start(jobs_to_json(sharing), tmp_path)
    assert [len(ids) for ids in made] == [5, 5, 3]
    assert [id for ids in made for id in ids] == [job.train_id for job in sharing]


def signalled(when: int, counted: CountedNet, train: TrainSpec, spec: EvalSpec, tile: int, device: torch.device):
    if tile == when:
        os.kill(os.getpid(), signal.SIGUSR2)
    return _draw_tile(counted, train, spec, tile, device)


@pytest.mark.slow
def test_submitit_queues_a_job_that_has_drawn_more_and_ends_one_that_has_not(job, tmp_path, monkeypatch, scratch):
    """Only SLURM is left out: submitit's own handler hears a signal that comes while the job draws."""
    first = job.evaluations[0]
    evaluation = first.model_copy(update={"evaluation": first.evaluation.model_copy(update={"samples": 250})})
    queued: list[int] = []
    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", lambda _, countdown: queued.append(countdown))
    for name, value in (("SUBMITIT_EXECUTOR", "slurm"), ("SUBMITIT_FOLDER", str(tmp_path)), ("SLURM_JOB_ID", "7")):
        monkeypatch.setenv(name, value)
    long_ago = time.monotonic() - 3600 * job.resources.hours
    task, paths = SlurmTask((replace(job, evaluations=(evaluation,)),)), TaskPaths(tmp_path, "7", 0)
    delayed = RequeuedTask(replace(task, began=long_ago))
    delayed.set_timeout(60, 9)
    for tile, ends, images in ((2, True, 128), (2, False, 128), (3, True, 192)):
        monkeypatch.setattr(import_module("harness.engine.sample"), "_draw_tile", partial(signalled, tile))
        with restored_handlers():
            JobEnvironment()._handle_signals(paths, delayed)
            if ends:
                with pytest.raises(SystemExit):
                    delayed.function()
            else:
                assert delayed.function().state == "failed"
                error = read_json(job.folder / "error.json")
                assert error["class"] == "time limit"
                assert "nothing was gained" in error["message"]
        assert list(saved_images(job.scratch).values()) == [images]
        delayed = RequeuedTask(replace(task, reached=Requeued.of(paths.submitted_pickle).reached, began=long_ago))
        delayed.set_timeout(60, 9)
    assert queued == [9, 9]


def test_a_job_that_gains_nothing_in_its_hours_is_not_queued_again(job):
    job.scratch.mkdir(parents=True)
    long_ago, just_now = time.monotonic() - 3600 * job.resources.hours, time.monotonic()
    task = SlurmTask((job,))
    again = replace(task.checkpoint().function, began=long_ago)
    assert (again.jobs, again.reached) == ((job,), frozenset())
    (job.scratch / "samples-0.json").write_text('{"images": 0}')
    with pytest.raises(UncompletedJobError, match="nothing was gained") as ended:
        again.checkpoint()
    assert class_of(ended.value) == "time limit"
    preempted = replace(again, began=just_now)
    assert preempted.checkpoint().function == again  # before it could gain anything
    for gained in (
        lambda: (job.scratch / "state-00000005.safetensors").touch(),
        lambda: (job.scratch / "samples-0.json").write_text('{"images": 64}'),
        lambda: (job.scratch / "samples-0.json").write_text('{"images": 128}'),
        lambda: write_json(job.store.eval_path(job.train_id, "0" * 12), {}),
    ):
        gained()
        again = again.checkpoint().function
        with pytest.raises(UncompletedJobError):
            again.checkpoint()


def test_what_a_job_leaves_to_itself_is_data_and_nobody_elses(job, tmp_path):
    path = tmp_path / "7_requeued.json"
    task = RequeuedTask(replace(SlurmTask((job,)), reached=frozenset({"a", "b"})))
    task.set_timeout(60, 9)
    task.dump(path)
    assert Requeued.of(path) == Requeued(reached=frozenset({"a", "b"}), left=9)
    for text in ('{"left": 1000}', "[]", "{"):
        path.write_text(text)
        assert Requeued.of(path) == Requeued(reached=None, left=ATTEMPTS)
    path.write_text('{"left": 3}')
    path.chmod(0o666)
    assert Requeued.of(path).left == ATTEMPTS
