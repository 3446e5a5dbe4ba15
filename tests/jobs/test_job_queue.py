"""A part of a training's work is begun when what it needs is done, and never after a failure of that."""

import threading

import pytest
from support.jobs import jobs_of

from harness.checkpoint_paths import weights_path
from harness.errors import UserError
from harness.files import read_json
from harness.jobs.job import Job
from harness.jobs.job_queue import JobQueue
from harness.jobs.local_pool import run_inline
from harness.jobs.preflight import check_unconverted
from harness.store.status import RunStatus

DONE, FAILED = RunStatus("done"), RunStatus("failed", "it broke")
SHARDS = ("resources.sample_shards=2", "evaluation.samples=200")


@pytest.fixture
def parts(tmp_path) -> list[Job]:
    """The jobs of two trainings."""
    return [part for job in jobs_of(tmp_path, "table2", *SHARDS)[:2] for part in job.parts()]


def name_of(job: Job | None) -> str:
    return job.part.name if job else "none"


def test_shards_wait_for_their_training_and_measuring_for_all_of_them(parts):
    assert [job.part.name for job in parts[:4]] == ["train", "sample-1-of-2", "sample-2-of-2", "measure-of-2"]
    queue = JobQueue(parts[:4])
    train = queue.take()
    waiting: list[Job | None] = []
    others = [threading.Thread(target=lambda: waiting.append(queue.take()), daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    assert not waiting
    queue.end(train, DONE)
    for other in others:
        other.join(10)
    assert sorted(map(name_of, waiting)) == ["sample-1-of-2", "sample-2-of-2"]
    queue.end(waiting[0], DONE)
    last = threading.Thread(target=lambda: waiting.append(queue.take()), daemon=True)
    last.start()
    assert len(waiting) == 2
    queue.end(waiting[1], RunStatus("diverged"))  # what it was good for before is measured
    last.join(10)
    assert name_of(waiting[2]) == "measure-of-2"


def test_after_a_failed_shard_its_neighbours_are_drawn_and_nothing_is_measured(parts):
    queue, taken = JobQueue(parts), []
    while job := queue.take():
        taken.append(job)
        queue.end(job, FAILED if job is parts[1] else DONE)
    assert [part for part in parts if part not in taken] == [parts[3]]  # the measuring of the first training


def test_what_is_done_is_no_job_again(parts):
    train, first, second, measure = parts[:4]
    for spec in train.evaluations:
        train.scratch.mkdir(parents=True, exist_ok=True)
        (train.scratch / f"weights-{spec.step:08d}.safetensors").touch()
        first.own_scratch.mkdir(parents=True, exist_ok=True)
        (first.own_scratch / f"samples-{first.missing_ids().pop()}.json").write_text('{"images": 128}')
    assert (first.missing(), measure.ready()) == ((), measure.missing())
    assert len(second.missing()) == 1  # tiles 2 and 3 of 200 images
    (whole,) = [job for job in jobs_of(first.store.scratch.parent, "table2", *SHARDS) if job.train_id == first.train_id]
    assert [part.part.name for part in whole.parts()] == ["sample-2-of-2", "measure-of-2"]


@pytest.mark.slow
def test_a_lost_shard_is_told_before_anything_is_measured_and_drawn_again_alone(tmp_path, cache):
    for name in ("whole", "parts"):  # the digits' classifier need not be trained again
        (tmp_path / name / "scratch").mkdir(parents=True)
        (tmp_path / name / "scratch" / ".cache").symlink_to(cache)
    whole, *_ = jobs_of(tmp_path / "whole", "table2", *SHARDS[1:])
    job, *_ = jobs_of(tmp_path / "parts", "table2", *SHARDS)
    assert whole().state == "done"
    train, first, second, measure = job.parts()
    assert [part().state for part in (train, first, second)] == ["done"] * 3
    (kept,) = second.own_scratch.glob("samples-*.bin")
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    lost = measure()
    assert (lost.state, lost.reason[:16]) == ("failed", "shard 2 of 2: th")
    assert not list(job.folder.glob("evals/*"))
    assert [part.part.name for part in job.parts()] == ["sample-2-of-2", "measure-of-2"]
    run_inline(job.parts(), lambda *_: None)
    assert not job.missing()
    for path in whole.folder.glob("evals/*"):
        ours = job.folder / "evals" / path.name
        if path.suffix == ".json":
            assert read_json(ours) | {"seconds": 0} == read_json(path) | {"seconds": 0}
        else:
            assert ours.read_bytes() == path.read_bytes()


@pytest.fixture
def phases(tmp_path) -> tuple[Job, Job]:
    """The baseline of Table 8, and the second phase on it."""
    *others, second = jobs_of(tmp_path, "table8")
    return next(job for job in others if job.train_id == second.first_phase_id), second


def test_a_second_phase_waits_for_its_first_and_is_not_begun_after_its_failure(phases):
    first, second = phases
    for outcome, following in ((DONE, second), (FAILED, None)):
        queue = JobQueue([second, first])
        assert queue.take() is first
        waiting: list[Job | None] = []
        other = threading.Thread(target=lambda queue=queue, waiting=waiting: waiting.append(queue.take()), daemon=True)
        other.start()
        assert not waiting
        queue.end(first, outcome)
        other.join(10)
        assert waiting == [following]


def test_a_second_phase_without_its_first_is_refused_before_anything_runs(phases):
    first, second = phases
    check_unconverted([second, first])
    words = f"{second.train_id} is a second phase of training {first.train_id}, whose weights of step 20 are not in"
    with pytest.raises(UserError, match=words):
        check_unconverted([second])
    weights = weights_path(first.scratch, 20)
    weights.parent.mkdir(parents=True)
    weights.touch()
    check_unconverted([second])
    assert second.frozen_weights() == weights
