"""`harness probe`: a kept checkpoint is probed once, and again where it would be measured otherwise."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file
from support.synthetic_study import new_store, table_of, write_measurement

from harness.cli import cli
from harness.errors import UserError
from harness.measure import representation_probe as probe
from harness.networks.build import build_objective
from harness.networks.checkpoint import weights_path
from harness.store.store import Store


@pytest.fixture
def kept(tmp_path):
    """Return a study of one measured run whose initial weights are kept, and a second one without a checkpoint."""
    store, table = new_store(tmp_path, "tried"), table_of("table3", "digits", "seeds=0")
    store.record_grid(table.name, Path("grids/table3.yaml"), "digits", ["seeds=0"])
    runs = table.cells[0].runs + table.cells[1].runs
    for run in runs:
        write_measurement(store, run, 3.0)
    folder = store.scratch_folder(runs[0].train_id)
    folder.mkdir(parents=True)
    weights = build_objective(runs[0].train).net.state_dict()
    save_file({f"ema.{name}": t for name, t in weights.items()}, weights_path(folder, runs[0].evaluation.step))
    return store, runs


def call(runner, store: Store, *words: str):
    folders = ["--results", store.results, "--scratch", store.scratch, "--data", store.scratch / "data"]
    return runner.invoke(cli, ["probe", store.study, *words, *map(str, folders)])


def test_a_checkpoint_is_probed_once(kept, monkeypatch):
    def none(*_, **__):
        raise UserError("no encoder here")

    monkeypatch.setattr(probe, "extractor", none)
    monkeypatch.setattr(probe, "NOISE_LEVELS", (0.4,))
    (store, (run, other)), runner = kept, CliRunner()
    told = call(runner, store)
    assert "probed 1 of 1 checkpoints" in told.output, told.output
    path = store.probe_path(run.train_id, run.evaluation.step)
    made = json.loads(path.read_text())
    assert made["protocol"]["encoder"] == "none: no encoder here"
    assert (made["protocol"]["label"], made["protocol"]["weights"]) == (None, "ema")
    assert [block["block"] for block in made["levels"][0]["blocks"]] == list(range(run.train.model.depth + 1))
    path.write_text(json.dumps(made | {"kept": True}))
    assert "probed 0 of 1 checkpoints" in call(runner, store, "--run", run.train_id[:5]).output
    assert json.loads(path.read_text())["kept"]
    monkeypatch.setattr(probe, "NOISE_LEVELS", (0.3,))  # measured otherwise, it is measured again
    assert "probed 1 of 1 checkpoints" in call(runner, store).output
    missing = call(runner, store, "--run", other.train_id)
    assert isinstance(missing.exception, UserError)
    assert "no measured checkpoint of training" in str(missing.exception)
