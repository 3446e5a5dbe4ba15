"""A job makes what its folder lacks: once, to the same numbers, through any number of kills."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from support.places import GRIDS

from harness.config.grid import load_table
from harness.config.settings import Resources
from harness.config.spec import eval_id
from harness.data.cache import folder_lock
from harness.engine.distributed import ALONE, joined
from harness.errors import UserError
from harness.files import read_json, read_jsonl
from harness.jobs import job as job_module
from harness.jobs import local_pool
from harness.jobs.job import jobs_for
from harness.jobs.local_pool import LocalPool, Worker, WorkerError, needs_workers
from harness.jobs.recording import run_lock
from harness.process_group import VISIBLE, ProcessPlace
from harness.store.store import Store


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def make_jobs(folder, data, *overrides, table="convergence", seeds="[0]"):
    runs = load_table(GRIDS / f"{table}.yaml", "smoke", [f"seeds={seeds}", *overrides]).runs
    return jobs_for(runs, Store(folder / "results", folder / "scratch", "study"), data)


def weights(job):
    path = job.store.scratch_folder(job.train_id) / f"weights-{job.steps:08d}.safetensors"
    return load_file(path)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_measuring(monkeypatch):
    monkeypatch.setattr(job_module.Job, "_evaluate", lambda *_: None)


def test_one_job_for_each_training_with_all_its_checkpoints(tmp_path, data):
    jobs = make_jobs(tmp_path, data)
    assert [[e.step for e in job.evaluations] for job in jobs] == [[0, 5, 10, 20], [0, 5, 10, 20]]


def test_a_checkpoint_on_the_way_is_the_shorter_run(tmp_path, data, monkeypatch):
    without_measuring(monkeypatch)
    long = make_jobs(tmp_path / "long", data)[1]
    assert long().state == "done"
    table = load_table(GRIDS / "table2.yaml", "smoke", ["epochs=40"])
    run = next(r for r in table.runs if r.train_id == long.train_id)
    (short,) = jobs_for([run], Store(tmp_path / "short", tmp_path / "short", "study"), data)
    assert short().state == "done"
    on_the_way = load_file(long.store.scratch_folder(long.train_id) / "weights-00000010.safetensors")
    assert equal(weights(short), on_the_way)


def test_measured_once_and_never_again(tmp_path, data, scratch):
    job = make_jobs(tmp_path, data)[0]
    assert job().state == "done"
    folder = job.store.run_folder(job.train_id)
    results = sorted((folder / "evals").glob("*.json"))
    assert len(results) == len(job.evaluations) == 4
    content = {json.loads(p.read_text())["spec"]["step"]: json.loads(p.read_text()) for p in results}
    assert content[20]["nfe"] == 6  # Heun: two evaluations in each of three intervals
    assert content[20]["metrics"]["fid"] < content[0]["metrics"]["fid"]
    assert not (folder / "heartbeat.json").exists()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert job().reason == "nothing was missing"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    lost = results[0].read_text()
    results[0].unlink()
    trained = (folder / "train.jsonl").read_text()
    assert job().state == "done"
    assert json.loads(results[0].read_text())["metrics"] == json.loads(lost)["metrics"]
    assert (folder / "train.jsonl").read_text() == trained  # measured again, not trained again


@pytest.mark.parametrize(
    ("table", "label", "nfe"),
    [("figure4", "DiT-B/2", 3), ("figure4", "DiT-S/2", 6), ("table7a", "MF-B/4, 80 epochs", 1)],
)
def test_every_family_runs_through_the_same_job(tmp_path, data, scratch, table, label, nfe):
    """NFE: three ancestral steps, twice as many with guidance, one for MeanFlow."""
    guidance = {3: (("guidance", "without"),), 6: (("guidance", "CFG 1.5"),), 1: ()}[nfe]
    cell = load_table(GRIDS / f"{table}.yaml", "smoke").cell((("model", label), *guidance, ("arm", "dispersive")))
    (job,) = jobs_for(cell.runs, Store(tmp_path / "results", tmp_path / "scratch", "study"), data)
    assert job().state == "done"
    (run,) = cell.runs
    assert read_json(job.store.eval_path(run.train_id, run.eval_id))["nfe"] == nfe
    log = read_jsonl(job.store.run_folder(job.train_id) / "train.jsonl")
    assert len(log) == job.steps
    assert all(line["regularizer"] < 0 for line in log)


@pytest.mark.parametrize(("system", "nfe"), [("iCT-XL/2", 1), ("Shortcut-XL/2", 1), ("IMM-XL/2", 2)])
def test_every_one_step_system_runs_through_the_same_job(tmp_path, data, scratch, system, nfe):
    cell = load_table(GRIDS / "table7b.yaml", "smoke").cell((("system", system),))
    (job,) = jobs_for(cell.runs, Store(tmp_path / "results", tmp_path / "scratch", "study"), data)
    assert job().state == "done"
    (run,) = cell.runs
    assert read_json(job.store.eval_path(run.train_id, run.eval_id))["nfe"] == nfe


def test_a_loss_that_is_not_finite_stops_the_run_as_diverged(tmp_path, data, scratch):
    job = make_jobs(tmp_path, data, "optimizer.learning_rate=1.0e+30")[0]
    outcome = job()
    assert outcome.state == "diverged"
    error = read_json(job.store.run_folder(job.train_id) / "error.json")
    assert error["class"] == "diverged"
    assert "not finite between steps" in error["message"]
    states = [job.store.status(job.train_id, eval_id(job.train, e)).state for e in job.evaluations]
    assert states == ["done", "diverged", "diverged", "diverged"]  # the untrained network could be measured
    assert job.diverged()


def test_a_failure_is_stored_and_stops_nobody_else(tmp_path, data, monkeypatch):
    without_measuring(monkeypatch)
    bad, good = make_jobs(tmp_path, data)
    taken = bad.store.run_folder(bad.train_id) / "train.jsonl"
    taken.mkdir(parents=True)
    assert bad().state == "failed"
    assert "Traceback" in read_json(bad.store.run_folder(bad.train_id) / "error.json")["traceback"]
    assert good().state == "done"


def test_an_earlier_checkpoint_is_made_without_touching_what_is_stored(tmp_path, data, monkeypatch):
    without_measuring(monkeypatch)
    wanted = {step: [r for r in load_table(GRIDS / "convergence.yaml", "smoke").runs if r.evaluation.step == step]
              for step in (10, 20)}  # fmt: skip
    store = Store(tmp_path, tmp_path / "scratch", "study")
    late, early = (jobs_for(wanted[step][:1], store, data)[0] for step in (20, 10))
    assert late().state == "done"
    folder = store.scratch_folder(late.train_id)
    log = (store.run_folder(late.train_id) / "train.jsonl").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*20.safetensors")}
    assert early().state == "done"
    assert (folder / "weights-00000010.safetensors").is_file()
    assert (store.run_folder(late.train_id) / "train.jsonl").read_text() == log
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*20.safetensors")} == before
    assert len(before) == 2


def test_a_side_training_that_was_killed_does_not_overshoot_the_next(tmp_path, data, monkeypatch):
    without_measuring(monkeypatch)
    runs = {r.evaluation.step: r for r in load_table(GRIDS / "convergence.yaml", "smoke").runs[::2]}
    store = Store(tmp_path, tmp_path / "scratch", "study")
    late, early = (jobs_for([runs[step]], store, data)[0] for step in (20, 5))
    assert late().state == "done"
    folder = store.scratch_folder(late.train_id)
    (folder / "behind").mkdir()
    for name in ("latest.json", "state-00000020.safetensors"):
        shutil.copy(folder / name, folder / "behind" / name)
    assert early().state == "done"
    assert (folder / "weights-00000005.safetensors").is_file()
    assert not (folder / "behind").exists()


def test_one_writer_per_run(tmp_path, data, monkeypatch):
    without_measuring(monkeypatch)
    job = make_jobs(tmp_path, data)[0]
    with run_lock(job.store.scratch_folder(job.train_id), ALONE):
        assert job().state == "skipped"
        assert not (tmp_path / "results").exists()
    assert job().state == "done"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_filesystem_that_cannot_lock_is_told_and_left_without_a_lock(tmp_path, monkeypatch, code):
    """A soft lock in its place would be left behind by a node that dies, and hold everybody up for good."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    for hold in (run_lock(tmp_path / "run", ALONE), folder_lock(tmp_path / "cache" / "features.lock")):
        with pytest.raises(UserError, match="mount it with flock"), hold:
            pass
    assert all(not path.stat().st_size for path in tmp_path.glob("*/*"))


@pytest.mark.parametrize("broken", ['{"host": "x"}', "[1]", '{"time": "late", "host": 3}'])
def test_a_broken_heartbeat_stops_nothing(tmp_path, data, monkeypatch, broken):
    without_measuring(monkeypatch)
    job = make_jobs(tmp_path, data)[0]
    folder = job.store.run_folder(job.train_id)
    folder.mkdir(parents=True)
    (folder / "heartbeat.json").write_text(broken)
    assert job.store.status(job.train_id, "0" * 12).state == "unreadable"
    assert job().state == "done"


@pytest.mark.slow
def test_a_worker_that_dies_fails_one_run_only(tmp_path, data, scratch):
    jobs = make_jobs(tmp_path, data)
    outcomes = {}

    def tell(job, outcome):
        if outcome is None and job is jobs[0]:
            killer = multiprocessing.Process(target=_kill_when_beating, args=(job,))
            killer.start()
        elif outcome is not None:
            outcomes[job.train_id] = outcome

    LocalPool(jobs, 1, tell).run()
    assert outcomes[jobs[0].train_id].state == "failed"
    assert "worker process died" in outcomes[jobs[0].train_id].reason
    assert outcomes[jobs[1].train_id].state == "done"


@pytest.mark.slow
def test_processes_that_share_a_run_end_together(tmp_path, data, scratch):
    """One that diverges does so in both; the leading one fails, and tells why; the other one dies."""
    bad, good = make_jobs(tmp_path, data, "resources.processes=2")
    wild = make_jobs(tmp_path, data, "resources.processes=2", "optimizer.learning_rate=1.0e+30")[0]
    taken = bad.store.run_folder(bad.train_id) / "train.jsonl"
    taken.mkdir(parents=True)
    outcomes = {}
    LocalPool([wild, bad, good], 1, lambda job, outcome: outcomes.update({job.train_id: outcome})).run()
    assert [outcomes[job.train_id].state for job in (wild, bad, good)] == ["diverged", "failed", "done"]
    assert "train.jsonl" in read_json(bad.store.run_folder(bad.train_id) / "error.json")["traceback"]
    taken.rmdir()
    worker = Worker(Resources(processes=2))
    killer = threading.Thread(target=_kill_when_beating, args=(bad, worker.processes[1].pid))
    killer.start()
    with contextlib.suppress(WorkerError):  # that it died, unless the other one is heard first
        assert worker.do(bad).state == "failed"
    killer.join()
    assert not any(process.is_alive() for process in worker.processes)
    assert not worker.fits(bad)


class Recorded:
    """In the place of multiprocessing: processes that are never started."""

    def __init__(self, told):
        self.told = told

    Pipe = staticmethod(multiprocessing.Pipe)

    def Process(self, target, args):
        self.told.append(args[2:])
        return SimpleNamespace(start=lambda: None, daemon=False)


def test_each_process_of_a_pool_has_a_gpu_of_its_own(monkeypatch):
    told, chosen = [], []
    monkeypatch.setattr(local_pool.multiprocessing, "get_context", lambda _: Recorded(told))
    for slot in (0, 1):
        Worker(Resources(gpus=2), slot)
    assert [(place.rank, place.local_rank) for place, _ in told] == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert all(on_gpu for _, on_gpu in told)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for place, _ in told:
        with joined(ProcessPlace(0, 1, place.local_rank, "")):
            pass
    assert chosen == [0, 1, 2, 0]


def test_without_gpus_asked_for_none_is_seen(tmp_path, data, monkeypatch):
    monkeypatch.setattr(job_module.Job, "missing", lambda _: ())
    for gpus, seen in ((1, "0,1"), (0, "")):
        monkeypatch.setenv(VISIBLE, "0,1")
        job = make_jobs(tmp_path, data, f"resources.gpus={gpus}")[0]
        assert job().state == "done"
        assert os.environ[VISIBLE] == seen
    monkeypatch.setattr(local_pool.multiprocessing, "get_context", lambda _: Recorded([]))
    assert [Worker(Resources(gpus=gpus)).fits(job) for gpus in (0, 1)] == [True, False]
    other = make_jobs(tmp_path, data, "resources.gpus=1")
    assert (needs_workers([job]), needs_workers(other), needs_workers([job, *other])) == (False, False, True)


def _kill_when_beating(job, pid=None):
    import os
    import signal

    path = job.store.run_folder(job.train_id) / "heartbeat.json"
    for _ in range(3000):
        beat = read_json(path)
        if beat:
            os.kill(pid or beat["pid"], signal.SIGKILL)
            return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.long
def test_killed_ten_times_and_bit_equal(tmp_path, data, monkeypatch):
    """kill −9 at random steps; each start goes on from the last checkpoint."""
    overrides = ("epochs=600", "resources.checkpoint_minutes=0.00001")
    job, whole = (
        jobs_for(
            load_table(GRIDS / "table2.yaml", "smoke", overrides).runs[3:4],
            Store(tmp_path / name, tmp_path / name / "scratch", "study"), data,
        )[0]
        for name in ("killed", "whole")
    )  # fmt: skip
    without_measuring(monkeypatch)
    assert whole().state == "done"
    chance, log = random.Random(0), job.store.run_folder(job.train_id) / "train.jsonl"
    spawn = multiprocessing.get_context("spawn")
    for kill in range(10):
        process = spawn.Process(target=_train_only, args=(job,))
        process.start()
        aim = 50 * kill + chance.randrange(1, 50)
        while process.is_alive() and (read_jsonl(log) or [{"step": 0}])[-1]["step"] < aim:
            time.sleep(0.002)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
        for path in tmp_path.rglob("*.json"):
            json.loads(path.read_text())
    assert job().state == "done"
    assert equal(weights(job), weights(whole))
    lines = [read_jsonl(j.store.run_folder(j.train_id) / "train.jsonl") for j in (job, whole)]
    terms = [[{k: v for k, v in line.items() if k != "images_per_second"} for line in log] for log in lines]
    assert terms[0] == terms[1]
    assert not list(tmp_path.rglob(".writing-*"))


def _train_only(job):
    job_module.Job._evaluate = lambda *_: None
    job()
