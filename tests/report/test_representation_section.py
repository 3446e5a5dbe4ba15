"""From kept weights to the report's section on representations: the command, the correlations, the words."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file
from scipy import stats
from support.synthetic_study import full_study, new_store, table_of, write_measurement

from harness.cli import cli
from harness.errors import UserError
from harness.files import write_json
from harness.measure import representation_probe as probe
from harness.networks.build import build_objective
from harness.networks.checkpoint import weights_path
from harness.report.analysis.pivot import pivot
from harness.report.analysis.representations import (
    MEASURES,
    arms,
    baseline_and_default,
    interval,
    repeatability,
    spearman,
)
from harness.report.reading.collect import collect
from harness.report.rendering.page import make_report
from harness.report.rendering.sections import representations
from harness.store.store import Store

PROTOCOL = {"fit": "9 of digits/train", "held_out": "7 of digits/test", "encoder": "none: no such", "noise": [0.2, 0.6]}


# Correlation.


def test_spearman_is_scipys_with_ties_and_without():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=20), rng.integers(0, 4, 20).astype(float)):
        y = x + rng.normal(size=20)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman([1, 2, 3], [4, 4, 4]) is None


@pytest.mark.parametrize("rho", [0.0, 0.6, -0.9])
def test_the_interval_covers_the_truth_as_often_as_it_says(rho):
    """Of a normal pair of correlation ρ, Spearman's is 6/π asin(ρ/2)."""
    rng, truth, n = np.random.default_rng(1), 6 / math.pi * math.asin(rho / 2), 28
    held = 0
    for _ in range(600):
        x, noise = rng.normal(size=(2, n))
        ranks = [np.argsort(np.argsort(v)) for v in (x, rho * x + math.sqrt(1 - rho**2) * noise)]
        low, high = interval(float(np.corrcoef(*ranks)[0, 1]), n)
        held += low <= truth <= high
    assert 0.92 < held / 600 < 0.98


# The section.


def write_probe(store: Store, run, distance: float, **blocks: float) -> None:
    """A probe whose measures grow by the block, of a network of two blocks; block 0 must not count."""
    known = dict.fromkeys(MEASURES, 0.5) | {"distance": distance, "norm": 2.0} | blocks
    levels = [
        {
            "noise": noise,
            "blocks": [{"block": k} | {name: value * k for name, value in known.items()} for k in range(3)],
        }
        for noise in PROTOCOL["noise"]
    ]
    path = store.probe_path(run.train_id, run.evaluation.step)
    write_json(path, {"train_id": run.train_id, "step": run.evaluation.step, "protocol": PROTOCOL, "levels": levels})


def probed_study(folder: Path, distance) -> tuple[Store, list]:
    """Table 2 and its neighbour with a probe of every run; distance(index of the cell) → its distance."""
    store = new_store(folder)
    tables = [table_of("table2", "digits", "seeds=[0,1]"), table_of("table3", "digits", "seeds=[0,1]")]
    full_study(store, tables)
    for table in tables[::-1]:
        for index, cell in enumerate(table.cells):
            for run in cell.runs:
                fid = 5 + 0.1 * index
                write_measurement(store, run, fid)
                write_probe(store, run, distance(fid) if cell.settings.regularizer.loss != "none" else distance(5.0))
    return store, [pivot(table, collect(store, tables)) for table in tables]


def test_arms_are_runs_that_differ_in_the_regulariser_alone(tmp_path):
    store, pivots = probed_study(tmp_path, lambda fid: fid)
    found = arms(store, pivots)
    trainings = {run.train.model_copy(update={"seed": 0}) for p in pivots for c in p.cells for run in c.source.runs}
    assert len(found) == len(trainings)  # the runs that both tables share are one arm
    plain, dispersive = baseline_and_default(found)
    assert plain.cell.settings.regularizer.loss == "none"
    assert (dispersive.name, dispersive.tables) == ("InfoNCE, ℓ2 · dispersive", 2)
    assert plain.mean("norm") == pytest.approx(3.0)  # blocks 1 and 2 of 2 · block
    other = pivots[1].cells[0].source.runs[0]
    write_json(store.probe_path(other.train_id, other.evaluation.step), {"levels": []})
    assert len(arms(store, pivots)[0].seeds) == 1  # what cannot be read is left out


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
    assert repeatability(arms(store, pivots)) == pytest.approx(1)
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
