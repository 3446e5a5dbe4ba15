"""Jobs on this machine: each worker's end is its own run's only, and its processes end together."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from support.jobs import jobs_of

from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.files import read_json
from harness.jobs import local_pool
from harness.jobs.job import Job
from harness.jobs.local_pool import Worker, check_room, needs_workers, run_in_workers, run_inline
from harness.jobs.preflight import check


def make_jobs(folder, *overrides):
    return jobs_of(folder, "convergence", "seeds=[0]", *overrides)


@pytest.mark.slow
def test_a_worker_that_dies_fails_one_run_only(tmp_path, scratch):
    jobs = make_jobs(tmp_path)
    outcomes = {}

    def tell(job, outcome):
        if outcome is None and job is jobs[0]:
            killer = multiprocessing.Process(target=_kill_when_beating, args=(job,))
            killer.start()
        elif outcome is not None:
            outcomes[job.train_id] = outcome

    run_in_workers(jobs, 1, tell)
    assert outcomes[jobs[0].train_id].state == "failed"
    assert "worker process died" in outcomes[jobs[0].train_id].reason
    assert outcomes[jobs[1].train_id].state == "done"


@pytest.mark.slow
def test_processes_that_share_a_run_end_together(tmp_path, scratch):
    """One that diverges does so in both; the leading one fails, and tells why; the other one dies."""
    two = "resources.processes=2"
    (bad, good), before = make_jobs(tmp_path, two), set(multiprocessing.active_children())
    wild, torn = (make_jobs(tmp_path, two, f"optimizer.learning_rate={rate}")[0] for rate in ("1.0e+30", "2.0e-4"))
    (bad.folder / "train.jsonl").mkdir(parents=True)
    outcomes = {}

    def started():
        return set(multiprocessing.active_children()) - before

    def tell(job, outcome):
        outcomes[job.train_id] = outcome
        if outcome is None and job is torn:
            pids = {process.pid for process in started()}
            threading.Thread(target=_kill_when_beating, args=(job, pids)).start()

    run_in_workers([wild, bad, good, torn], 1, tell)
    states = [outcomes[job.train_id].state for job in (wild, bad, good, torn)]
    assert states == ["diverged", "failed", "done", "failed"]
    assert "train.jsonl" in read_json(bad.folder / "error.json")["traceback"]
    assert not started()


class NeverStarted:
    """In the place of multiprocessing: processes that are never started."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def Process(self, **_):
        return SimpleNamespace(start=lambda: None)


def test_a_worker_fits_jobs_that_see_gpus_as_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(local_pool.multiprocessing, "get_context", lambda _: NeverStarted())
    (without, *_), (with_gpu, *_) = (make_jobs(tmp_path, f"resources.gpus={gpus}") for gpus in (0, 1))
    assert [Worker(Resources(gpus=gpus)).fits(without) for gpus in (0, 1)] == [True, False]
    assert [needs_workers(jobs) for jobs in ([without], [with_gpu], [without, with_gpu])] == [False, False, True]


@pytest.mark.parametrize(
    ("gpus", "workers", "overrides", "needed"),
    [
        (1, 4, (), 2),  # of two trainings
        (1, 4, ("resources.jobs_per_gpu=2",), None),
        (2, 2, (), None),
        (3, 2, ("resources.gpus=2",), 2),
        (1, 1, ("resources.gpus=2",), None),  # one alone is as it always was
        (0, 4, (), None),
    ],
)
def test_more_at_once_than_the_gpus_are_to_be_shared_by_is_refused(
    tmp_path, monkeypatch, gpus, workers, overrides, needed
):
    monkeypatch.setattr(local_pool, "gpu_count", lambda: gpus)
    jobs = make_jobs(tmp_path, "resources.gpus=1", *overrides)
    if needed is None:
        check_room(jobs, workers)
        return
    with pytest.raises(
        UserError, match=rf"--jobs {workers}: 2 trainings .* add --set resources\.jobs_per_gpu={needed}"
    ):
        check_room(jobs, workers)


@pytest.mark.parametrize("other", ["gpus=2", "nodes=2", "sample_shards=2"])
def test_what_shares_a_gpu_has_no_other_beside_it(tmp_path, other):
    with pytest.raises(
        UserError, match=rf"resources\.jobs_per_gpu: 4 trainings .* resources\.{other.replace('=', ': ')};"
    ):
        check(make_jobs(tmp_path, "resources.gpus=1", "resources.jobs_per_gpu=4", f"resources.{other}"))


@pytest.mark.slow
@pytest.mark.long
def test_four_trainings_that_share_a_gpu_give_the_numbers_of_one_after_the_other(tmp_path, cache, monkeypatch):
    """On a machine without one, all compute on the CPU, as they would beside each other on it."""

    def numbers(name: str, run: Callable[[Sequence[Job]], None]) -> tuple[list[dict[str, float]], list[bytes]]:
        (tmp_path / name / "scratch").mkdir(parents=True)
        (tmp_path / name / "scratch" / ".cache").symlink_to(cache)
        sharing = ("resources.gpus=1", "resources.jobs_per_gpu=4")
        jobs = jobs_of(tmp_path / name, "table2", "seeds=[0]", *sharing, data=tmp_path / "data")[:4]
        run(jobs)
        evals = [read_json(path)["metrics"] for job in jobs for path in sorted(job.folder.glob("evals/*.json"))]
        weights = [path.read_bytes() for job in jobs for path in sorted(job.scratch.glob("weights-*.safetensors"))]
        assert len(evals) == len(weights) == 4
        shares.append({read_json(job.folder / "env.json")["attempts"][0]["sharing"] for job in jobs})
        return evals, weights

    shares: list[set[int]] = []
    monkeypatch.setattr(local_pool, "gpu_count", lambda: 1)
    beside = numbers("beside", lambda jobs: run_in_workers(jobs, 4, lambda *_: None))
    assert beside == numbers("after", lambda jobs: run_inline(jobs, lambda *_: None))
    assert shares == [{4}, {1}]


def _kill_when_beating(job, team=None):
    """Kill the process that leads a run, or the other one of the team, once the run has begun."""
    path = job.folder / "heartbeat.json"
    for _ in range(3000):
        beat = read_json(path)
        if beat:
            (pid,) = team - {beat["pid"]} if team else {beat["pid"]}
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)
