"""Imported weights from the command line: planned, measured, tuned and written back."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.places import GRIDS
from support.public_checkpoints import release

from harness.cli import cli
from harness.config.grid import load_table
from harness.config.spec import train_id
from harness.errors import UserError
from harness.files import read_json, read_jsonl
from harness.jobs.job import jobs_for
from harness.jobs.local_pool import run_in_workers
from harness.method.backbone import DiT
from harness.networks import checkpoint
from harness.networks.public_layouts import read_parts
from harness.store.store import Store

GRID = """
table: imported
title: Published checkpoints
question: What do they give here?
rows: weights
base: {preset: paper, model: SiT-S/2}
axes:
  weights:
    given: {weights: given, epochs: 0}
vary: [{row: {weights: given}}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch, scratch):
    """A folder with a grid of imported weights, and a file that fits SiT-S/2 at smoke."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_WEIGHTS", raising=False)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "imported.yaml").write_text(GRID)
    for part in ("scales", "presets"):
        (tmp_path / "grids" / part).symlink_to(GRIDS / part)
    net = DiT(8, 2, 1, 16, 4, 2, num_classes=10, learn_sigma=True).initialise(5)
    torch.manual_seed(0)
    torch.nn.init.normal_(net.final_layer.linear.weight, std=0.02)
    torch.save(release(net.state_dict()), "given.pt")
    return tmp_path


def harness(*words):
    return " ".join(CliRunner().invoke(cli, words, catch_exceptions=False).output.split())


def test_an_imported_model_is_measured_by_the_same_job_and_nothing_is_trained(project):
    with pytest.raises(UserError, match=r"imported.yaml:9: weights: no weights 'given' in weights; 'harness weights"):
        harness("plan", "grids/imported.yaml", "--scale", "smoke")
    printed = harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    assert "given: SiT-S/2 (flow, 4 blocks of width 16" in printed
    assert "given: SiT-S/2, ema and model" in harness("weights", "list")
    assert "0 steps of 32; 1 trainings" in harness("plan", "grids/imported.yaml", "--scale", "smoke")
    harness("run", "grids/imported.yaml", "--scale", "smoke")
    (run,) = load_table(Path("grids/imported.yaml"), "smoke").runs
    store = Store(Path("results"), Path("scratch"), "smoke")
    assert read_json(store.eval_path(run.train_id, run.eval_id))["metrics"]["fid"] > 0
    assert read_jsonl(store.run_folder(run.train_id) / "train.jsonl") == []
    assert read_json(store.run_folder(run.train_id) / "spec.json")["weights"] == run.train.weights
    assert [p.name for p in store.scratch_folder(run.train_id).glob("*.safetensors")] == [
        "weights-00000000.safetensors"
    ]
    harness("weights", "export", f"smoke/{run.train_id}", "back.pt")
    with pytest.raises(UserError, match=r"back\.pt: exists already"):
        harness("weights", "export", f"smoke/{run.train_id}", "back.pt")
    back, given = torch.load("back.pt", weights_only=True), read_parts(Path("given.pt"))
    for part in ("ema", "model"):
        for name, tensor in back[part].items():
            whole = given[part][name]
            assert torch.equal(tensor, whole.unflatten(0, (-1, 2))[:, 0] if "final_layer.linear" in name else whole)
    for missing in (Path("weights/given.safetensors"), Path("given.pt")):
        missing.unlink()
    assert "1 done" in harness("status", "smoke")  # the JSON is enough
    with pytest.raises(UserError, match=r"given\.safetensors is not here; import the file again"):
        harness("run", "grids/imported.yaml", "--scale", "smoke", "--study", "again")


def test_weights_of_another_shape_are_refused_by_the_plan(project):
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    with pytest.raises(UserError, match=r"--set: weights: 'givn'|no weights 'givn' in weights; did you mean 'given'"):
        harness("plan", str(GRIDS / "table2.yaml"), "--scale", "smoke", "--set", "weights=givn")
    with pytest.raises(
        UserError, match=r"'given' is SiT-S/2 \(flow, 4 blocks of width 16 .*SiT-B/2 here is flow, 4 bl"
    ):
        harness("plan", str(GRIDS / "table2.yaml"), "--scale", "smoke", "--set", "weights=given")
    content = json.loads(Path("weights/given.json").read_text())
    Path("weights/given.json").write_text(json.dumps(content | {"sha256": 3}))
    with pytest.raises(UserError, match=r"weights/given.json: sha256: String should match pattern .*; import"):
        harness("plan", "grids/imported.yaml", "--scale", "smoke")


def test_fine_tuning_begins_from_both_and_is_another_training(project, monkeypatch):
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    Path("grids/imported.yaml").write_text(GRID.replace("epochs: 0", "epochs: 2"))
    overrides = ["optimizer.learning_rate=1.0e-9", "ema=0.5"]
    (tuned,) = load_table(Path("grids/imported.yaml"), "smoke", overrides).runs
    monkeypatch.setattr("harness.jobs.job.Job._evaluate", lambda *_: None)
    (job,) = jobs_for([tuned], Store(Path("results"), Path("scratch"), "smoke"), Path("data"))
    assert job().state == "done"
    folder, given = job.store.scratch_folder(job.train_id), read_parts(Path("given.pt"))
    name = "blocks.1.mlp.fc1.weight"
    torch.testing.assert_close(
        checkpoint.load_weights(folder, 2, "model")[name], given["model"][name], rtol=0, atol=1e-6
    )
    quarter = 0.25 * given["ema"][name] + 0.75 * given["model"][name]  # two steps of EMA 0.5
    torch.testing.assert_close(checkpoint.load_weights(folder, 2, "ema")[name], quarter, rtol=0, atol=1e-6)
    assert train_id(tuned.train.model_copy(update={"weights": None})) != tuned.train_id


@pytest.mark.slow
def test_two_processes_begin_from_them_and_align_as_one_does(project):
    """One of the two places the weights and tells the facts; the encoder is trained once."""
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    Path("grids/imported.yaml").write_text(GRID.replace("epochs: 0", "epochs: 20"))
    aligned = ["alignment.loss=cosine", "alignment.block=last"]
    jobs = {}
    for study, words in (("one", []), ("two", ["resources.processes=2"])):
        (run,) = load_table(Path("grids/imported.yaml"), "smoke", [*aligned, *words]).runs
        store = Store(Path("results"), Path("scratch"), study)
        (jobs[study],) = jobs_for([run], store, Path("data"))
    outcomes = [jobs["one"]()]
    run_in_workers([jobs["two"]], 1, lambda job, outcome: outcomes.append(outcome))
    assert [outcome.state for outcome in outcomes if outcome] == ["done", "done"]
    assert jobs["one"].train_id == jobs["two"].train_id
    folders = [job.store.run_folder(job.train_id) for job in jobs.values()]
    facts, logs = [read_json(f / "facts.json") for f in folders], [read_jsonl(f / "train.jsonl") for f in folders]
    assert facts[0] == facts[1]
    assert facts[0]["projector_parameters"] > 0
    assert len(logs[0]) == 5
    for line, line2 in zip(*logs, strict=True):
        names = ("denoising", "alignment", "gradient_norm")
        assert [line[name] for name in names] == pytest.approx([line2[name] for name in names], rel=1e-3)
