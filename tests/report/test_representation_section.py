"""From kept weights to the report's section on representations: the command, the correlations, the words."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file
from support.probed_study import probed_study
from support.synthetic_study import new_store, table_of, write_measurement

from harness.cli import cli
from harness.errors import UserError
from harness.measure import representation_probe as probe
from harness.networks.build import build_objective
from harness.networks.checkpoint import weights_path
from harness.report.analysis.representations import probed_arms, repeatability
from harness.report.rendering.page import make_report
from harness.report.rendering.sections import representations
from harness.store.store import Store

# The section.


@pytest.mark.parametrize(("sign", "words"), [(-1, "better, where representations are further apart"),
                                             (1, "worse, where representations are further apart")])  # fmt: skip
def test_what_is_found_is_said(tmp_path, sign, words):
    store, pivots = probed_study(tmp_path, lambda fid: 10 + sign * fid)
    section = representations(store, pivots)
    rows = {row.title: row for row in section.correlations}
    assert rows["pairwise distance"].rho == ("1.00" if sign > 0 else "−1.00")
    assert "norm" not in rows  # the same for all arms: it has no order
    said = " ".join(section.findings)
    assert words in said
    assert "features are 1.0 times as large" in said
    assert repeatability(probed_arms(store, pivots)) == pytest.approx(1)
    assert "digits/test" in section.protocol


def test_the_page_shows_it_where_there_is_something_to_show(tmp_path):
    store, pivots = probed_study(tmp_path, lambda fid: fid)
    tables = [p.table for p in pivots]
    pages = [make_report(store, tables, tmp_path / name).read_text() for name in ("one", "two")]
    assert pages[0] == pages[1]
    assert 'id="representations"' in pages[0]
    assert "figure-representations" in pages[0]
    record = json.loads((tmp_path / "one" / "representations.json").read_text())
    first, arms_ = record["correlations"][0], record["arms"]
    assert (first["measure"], first["arms"]) == ("distance", len(arms_))
    assert [first[key] for key in ("rho", "low", "high")] == pytest.approx([1, 1, 1])
    assert arms_[0]["fid"] == pytest.approx(5.0)
    for path in store.root.glob("*/probe-*.json"):
        path.unlink()
    assert 'id="representations"' not in make_report(store, tables, tmp_path / "three").read_text()


# The command.


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
    assert "probed 0 of 1 checkpoints" in call(runner, store, "--only", run.train_id[:5]).output
    assert json.loads(path.read_text())["kept"]
    monkeypatch.setattr(probe, "NOISE_LEVELS", (0.3,))  # measured otherwise, it is measured again
    assert "probed 1 of 1 checkpoints" in call(runner, store).output
    missing = call(runner, store, "--only", other.train_id)
    assert isinstance(missing.exception, UserError)
    assert "no measured checkpoint of training" in str(missing.exception)
