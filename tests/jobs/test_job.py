"""A job makes what its folder lacks: once, to the same numbers, through any number of kills."""

import errno
import json
import os
import random
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file
from support.forked import forkserver
from support.jobs import jobs_of, store_in, without_measuring
from support.places import GRIDS

from harness.checkpoint_paths import weights_path
from harness.config.grid import load_table
from harness.config.spec import eval_id
from harness.data.cache import folder_lock
from harness.engine.distributed import ALONE
from harness.errors import UserError
from harness.files import read_json, read_jsonl
from harness.jobs.job import jobs_for
from harness.jobs.recording import run_lock
from harness.store.status import run_status


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def make_jobs(folder, data, *overrides):
    return jobs_of(folder, "convergence", "seeds=[0]", *overrides, data=data)


def training_jobs(folder, data):
    return [without_measuring(job) for job in make_jobs(folder, data)]


def weights(job):
    return load_file(weights_path(job.scratch, job.steps))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_one_job_for_each_training_with_all_its_checkpoints(tmp_path, data):
    jobs = make_jobs(tmp_path, data)
    assert [[e.step for e in job.evaluations] for job in jobs] == [[0, 5, 10, 20], [0, 5, 10, 20]]


def test_a_checkpoint_on_the_way_is_the_shorter_run(tmp_path, data):
    long = training_jobs(tmp_path / "long", data)[1]
    assert long().state == "done"
    table = load_table(GRIDS / "table2.yaml", "smoke", ["epochs=40"])
    run = next(r for r in table.runs if r.train_id == long.train_id)
    short = without_measuring(*jobs_for([run], store_in(tmp_path / "short"), data))
    assert short().state == "done"
    on_the_way = load_file(long.scratch / "weights-00000010.safetensors")
    assert equal(weights(short), on_the_way)


def test_measured_once_and_never_again(tmp_path, data, scratch):
    job = make_jobs(tmp_path, data)[0]
    assert job().state == "done"
    folder = job.folder
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
    (job,) = jobs_for(cell.runs, store_in(tmp_path), data)
    assert job().state == "done"
    (run,) = cell.runs
    assert read_json(job.store.eval_path(run.train_id, run.eval_id))["nfe"] == nfe
    log = read_jsonl(job.folder / "train.jsonl")
    assert len(log) == job.steps
    assert all(line["regularizer"] < 0 for line in log)


@pytest.mark.parametrize(("system", "nfe"), [("iCT-XL/2", 1), ("Shortcut-XL/2", 1), ("IMM-XL/2", 2)])
def test_every_one_step_system_runs_through_the_same_job(tmp_path, data, scratch, system, nfe):
    cell = load_table(GRIDS / "table7b.yaml", "smoke").cell((("system", system),))
    (job,) = jobs_for(cell.runs, store_in(tmp_path), data)
    assert job().state == "done"
    (run,) = cell.runs
    assert read_json(job.store.eval_path(run.train_id, run.eval_id))["nfe"] == nfe


def test_a_loss_that_is_not_finite_stops_the_run_as_diverged(tmp_path, data, scratch):
    job = make_jobs(tmp_path, data, "optimizer.learning_rate=1.0e+30")[0]
    outcome = job()
    assert outcome.state == "diverged"
    error = read_json(job.folder / "error.json")
    assert error["class"] == "diverged"
    assert "not finite between steps" in error["message"]
    states = [run_status(job.store, job.train_id, eval_id(job.train_id, e)).state for e in job.evaluations]
    assert states == ["done", "diverged", "diverged", "diverged"]  # the untrained network could be measured
    assert job.diverged()


def test_a_failure_is_stored_and_stops_nobody_else(tmp_path, data):
    bad, good = training_jobs(tmp_path, data)
    taken = bad.folder / "train.jsonl"
    taken.mkdir(parents=True)
    assert bad().state == "failed"
    assert "Traceback" in read_json(bad.folder / "error.json")["traceback"]
    assert good().state == "done"


def test_an_earlier_checkpoint_is_made_without_touching_what_is_stored(tmp_path, data):
    by_step = {step: [r for r in load_table(GRIDS / "convergence.yaml", "smoke").runs if r.evaluation.step == step]
              for step in (10, 20)}  # fmt: skip
    late, early = (without_measuring(*jobs_for(by_step[step][:1], store_in(tmp_path), data)) for step in (20, 10))
    assert late().state == "done"
    folder = late.scratch
    log = (late.folder / "train.jsonl").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*20.safetensors")}
    assert early().state == "done"
    assert (folder / "weights-00000010.safetensors").is_file()
    assert (late.folder / "train.jsonl").read_text() == log
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*20.safetensors")} == before
    assert len(before) == 2


def test_a_side_training_that_was_killed_does_not_overshoot_the_next(tmp_path, data):
    runs = {r.evaluation.step: r for r in load_table(GRIDS / "convergence.yaml", "smoke").runs[::2]}
    late, early = (without_measuring(*jobs_for([runs[step]], store_in(tmp_path), data)) for step in (20, 5))
    assert late().state == "done"
    folder = late.scratch
    (folder / "behind").mkdir()
    for name in ("latest.json", "state-00000020.safetensors"):
        shutil.copy(folder / name, folder / "behind" / name)
    assert early().state == "done"
    assert (folder / "weights-00000005.safetensors").is_file()
    assert not (folder / "behind").exists()


def test_one_writer_per_run(tmp_path, data):
    job = training_jobs(tmp_path, data)[0]
    with run_lock(job.scratch, ALONE):
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
def test_a_broken_heartbeat_stops_nothing(tmp_path, data, broken):
    job = training_jobs(tmp_path, data)[0]
    folder = job.folder
    folder.mkdir(parents=True)
    (folder / "heartbeat.json").write_text(broken)
    assert run_status(job.store, job.train_id, "0" * 12).state == "unreadable"
    assert job().state == "done"


@pytest.mark.slow
@pytest.mark.long
def test_killed_ten_times_and_bit_equal(tmp_path, data):
    """kill −9 at random steps; each start goes on from the last checkpoint."""
    overrides = ("epochs=200", "resources.checkpoint_minutes=0.00001")
    run = load_table(GRIDS / "table2.yaml", "smoke", overrides).runs[3]
    job, whole = (without_measuring(*jobs_for([run], store_in(tmp_path / name), data)) for name in ("killed", "whole"))
    assert whole().state == "done"
    chance, log = random.Random(0), job.folder / "train.jsonl"
    for kill in range(10):
        process = forkserver().Process(target=job)
        process.start()
        aim = 15 * kill + chance.randrange(1, 15)
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
