"""What a job records: where and as what each attempt ran, how it ended, and the model with its encoder."""

import platform
import shutil
import subprocess
from contextlib import suppress
from datetime import datetime

import pytest
import timm
import torch
from support.places import GRIDS
from support.specs import OWN, aligned_spec
from support.synthetic_study import new_store, table_of
from support.trainings import make_dataset, make_encoder

from harness.config.grid import load_table
from harness.errors import UserError
from harness.files import read_json, read_jsonl, write_json
from harness.jobs.job import Job
from harness.jobs.preflight import check
from harness.jobs.recording import model_facts, record_attempt, record_failure, record_model_facts, source
from harness.networks.encoder import FrozenEncoder, parameters
from harness.store.records import Environment, Failure, Heartbeat, read_spec
from harness.store.store import Store


def test_each_attempt_says_where_and_as_what_it_ran(tmp_path, monkeypatch):
    run = table_of("table5").runs[0]
    folder = new_store(tmp_path).run_folder(run.train_id)
    for name, value in {"JOB_ID": "12", "ARRAY_JOB_ID": "11", "ARRAY_TASK_ID": "3", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with suppress(ZeroDivisionError), record_attempt(folder, run.train, 100, 1, 1):
        _ = 1 / 0
    record_failure(folder, RuntimeError("no"))
    failure = Failure.load(folder)
    with record_attempt(folder, run.train, 100, 2, 3):
        pass
    assert read_spec(folder) == run.train
    assert Failure.load(folder) is Heartbeat.load(folder) is None
    first, second = Environment.load(folder).attempts
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.slurm == {"job": "12", "array": "11", "task": "3", "restarts": "1"}
    assert first.slurm_job_id == "11_3"
    assert first.end is None
    assert datetime.fromisoformat(first.last_sign).timestamp() == int(failure.time)
    assert (second.processes, second.threads, second.host) == (3, 2, platform.node())
    assert second.gpus in (0, 3)
    assert second.end is not None


def test_what_earlier_attempts_say_stays_as_it_was_written(tmp_path):
    run = table_of("table5").runs[0]
    folder = new_store(tmp_path).run_folder(run.train_id)
    old = {"start": "2026-11-21T05:00:00+00:00", "end": None, "device": "Some CPU", "threads": 2, "of its time": [1]}
    write_json(folder / "env.json", {"attempts": [old]})
    with record_attempt(folder, run.train, 100, 1, 1):
        pass
    first, _ = read_json(folder / "env.json")["attempts"]
    assert first == old


def test_uncommitted_changes_are_kept_beside_the_run(tmp_path):
    package = tmp_path / "clone" / "harness"
    package.mkdir(parents=True)
    (package / "cli.py").write_text("before\n")

    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, "-C", tmp_path / "clone", *words], check=True, capture_output=True).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "m")
    run = tmp_path / "run"
    clean = source(run, package)
    assert (clean["dirty"], clean["diff"]) == (False, None)
    assert clean["commit"] == git("rev-parse", "HEAD").decode().strip()
    (package / "cli.py").write_text("after\n")
    dirty = source(run, package)
    assert dirty["dirty"] is True
    git("checkout", "-q", ".")
    git("apply", str(run / dirty["diff"]))
    assert (package / "cli.py").read_text() == "after\n"


SPEC = aligned_spec()


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    return make_encoder(make_dataset(), name="own-vit", parameters=1, sha256="ab")


def run(*overrides: str):
    return load_table(GRIDS / "table6.yaml", "imagenet256", overrides).runs


def test_parameters_are_those_published():
    """SiT-XL/2 has 675M, MeanFlow-XL/2 676M; DINOv2's ViT-B 86M, and REPA's projector for it 8M."""
    xl = run()[1].train
    mean_flow = load_table(GRIDS / "table7a.yaml", "imagenet256").runs[-1].train
    assert round(model_facts(xl.model_copy(update={"alignment": None}), None).parameters / 1e6) == 675
    assert round(model_facts(mean_flow, None).parameters / 1e6) == 676
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch14_dinov2.lvd142m", img_size=224)
    assert round(parameters(vit) / 1e6) == 86

    class OfThatWidth:
        width, record = 768, {"name": "wide", "parameters": 1, "sha256": ""}

    layers = [(1152, 2048), (2048, 2048), (2048, 768)]
    assert model_facts(xl, OfThatWidth()).projector_parameters == sum((a + 1) * b for a, b in layers)


def test_a_training_cannot_go_on_with_another_encoder(tmp_path, encoder, monkeypatch):
    record_model_facts(tmp_path, SPEC, encoder)
    record_model_facts(tmp_path, SPEC, encoder)
    monkeypatch.setattr(encoder, "record", encoder.record | {"sha256": "cd"})
    with pytest.raises(UserError, match="this training began with encoder weights of sha256 ab, and now finds cd"):
        record_model_facts(tmp_path, SPEC, encoder)
    assert read_json(tmp_path / "facts.json")["encoder"]["sha256"] == "ab"


def test_a_job_makes_its_encoder_and_goes_on_with_it(tmp_path, monkeypatch):
    (aligned,) = [r for r in load_table(GRIDS / "table6.yaml", "smoke").runs if r.train.alignment]
    store = Store(tmp_path / "results", tmp_path / "scratch", "study")
    monkeypatch.setattr(Job, "_evaluate", lambda *_: None)

    def job(step: int) -> Job:
        alignment = aligned.train.alignment
        train = aligned.train.model_copy(update={"alignment": alignment.model_copy(update={"own": OWN})})
        return Job(
            store, tmp_path, train, (aligned.evaluation.model_copy(update={"step": step}),), aligned.resources, 1
        )

    check([job(2)])
    assert job(2)().state == "done"
    folder = store.run_folder(job(2).train_id)
    record = read_json(folder / "facts.json")
    (made,) = (store.scratch / ".cache").glob("encoder-digits-*.json")
    assert record["encoder"]["sha256"] == read_json(made)["weights"]
    assert record["encoder"]["accuracy"] == read_json(made)["accuracy"]
    assert all(-1 <= line["alignment"] <= 1 for line in read_jsonl(folder / "train.jsonl"))
    for path in (store.scratch / ".cache").glob("encoder-digits-*"):
        path.unlink()
    assert job(2)().state == "done"  # to measure again takes no encoder
    assert not list((store.scratch / ".cache").glob("encoder-digits-*"))
    record["encoder"]["sha256"] = "0" * 64
    write_json(folder / "facts.json", record)
    outcome = job(3)()
    assert outcome.state == "failed"
    assert "this training began with encoder weights of sha256 000000000000" in outcome.reason


def test_a_row_that_sets_both_trains_with_both(tmp_path, monkeypatch):
    """Dispersive loss and REPA together are a row of a grid, and no code."""
    shutil.copytree(GRIDS, tmp_path / "grids")
    row = "REPA and dispersive: {regularizer.loss: infonce-l2, alignment: {loss: cosine, stop: 1}}"
    (tmp_path / "grids" / "both.yaml").write_text(
        f"table: both\ntitle: Both\nquestion: Do they add up?\nvalue: fid\nrows: method\n"
        f"base: {{preset: paper, model: SiT-B/2, epochs: 2}}\naxes:\n  method:\n    {row}\n"
        f"vary:\n  - product: {{method: [REPA and dispersive]}}\n"
    )
    (run,) = load_table(tmp_path / "grids" / "both.yaml", "smoke").runs
    store = Store(tmp_path / "results", tmp_path / "scratch", "study")
    monkeypatch.setattr(Job, "_evaluate", lambda *_: None)
    own = run.train.alignment.model_copy(update={"own": OWN})
    train, stop = run.train.model_copy(update={"alignment": own}), run.train.alignment.stop
    job = Job(store, tmp_path, train, (run.evaluation,), run.resources, 1)
    assert job().state == "done"
    lines = read_jsonl(store.run_folder(job.train_id) / "train.jsonl")
    assert stop in [line["step"] for line in lines]
    assert run.evaluation.step > stop
    for line in lines:
        aligned = line["step"] <= stop
        assert ("alignment" in line, "alignment.gradient_share" in line) == (aligned, aligned)
        total = line["denoising"] + train.regularizer.lambda_ * line["regularizer"]
        total += own.coefficient * line["alignment"] if aligned else 0
        assert line["loss"] == pytest.approx(total, rel=1e-5)
