"""Results read from folders: every run has a record, and every gap its own words."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support import synthetic_study as synthetic
from support.html_page import Page
from support.synthetic_study import pivot_cell, pivot_of, write_values

from harness.config import spec
from harness.config.grid import Run
from harness.report.analysis.text import state_words
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.page import make_report
from harness.store import records
from harness.store.records import Measurement, write_spec
from harness.store.store import Store


def test_every_state_is_shown_with_its_own_words(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    losses = ("InfoNCE, ℓ2", "InfoNCE, cosine", "Hinge", "Covariance")
    runs = [run for loss in losses for run in synthetic.cell_of(table, loss, "dispersive").runs]
    for run in runs[:7]:
        store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, runs[1], "error", "CUDA out of memory")
    synthetic.write_error(store, runs[2], "diverged", "the loss was nan at step 300")
    synthetic.write_heartbeat(store, runs[3])
    synthetic.write_heartbeat(store, runs[4], time=0.0)
    synthetic.write_text(store.eval_path(runs[5].train_id, runs[5].eval_id), '{"train_id": "')
    laid_out = pivot_of(store, table)
    states = [state_words(pivot_cell(laid_out, loss, "dispersive")) for loss in losses]
    assert states == ["not run, failed", "diverged, running", "interrupted, unreadable", "seed 0 not run"]
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    for words in [*states, "CUDA out of memory", "the loss was nan at step 300", "training, step 400 of 1200"]:
        assert words in page.text
    assert f"evals/{runs[5].eval_id}.json is broken" in page.text
    assert "26 measurements: 19 done, 2 not run" in page.text


def _corrupt(change: Callable[[dict], object]) -> Callable[[Store, Run], None]:
    def write_changed(store: Store, run: Run) -> None:
        path = synthetic.write_measurement(store, run, 5.0)
        content = Measurement.model_validate_json(path.read_bytes()).model_dump()
        change(content)
        synthetic.write_text(path, content)

    return write_changed


def _heartbeat(store: Store, run: Run) -> None:
    synthetic.write_text(store.run_folder(run.train_id) / "heartbeat.json", {"host": "elsewhere"})


def _heartbeat_folder(store: Store, run: Run) -> None:
    (store.run_folder(run.train_id) / "heartbeat.json").mkdir(parents=True)


def _other_spec(store: Store, run: Run) -> None:
    synthetic.write_measurement(store, run, 5.0)
    write_spec(store.run_folder(run.train_id), run.with_seed(run.seed + 1).train)


def _edited_spec(store: Store, run: Run) -> None:
    """One number of a training that is like it in all else."""
    synthetic.write_measurement(store, run, 5.0)
    optimizer = run.train.optimizer.model_copy(update={"learning_rate": 2e-4})
    write_spec(store.run_folder(run.train_id), run.train.model_copy(update={"optimizer": optimizer}))


def _torn_spec(store: Store, run: Run) -> None:
    synthetic.write_measurement(store, run, 5.0)
    synthetic.write_text(store.run_folder(run.train_id) / "spec.json", '{"process": "fl')


BROKEN: dict[str, tuple[Callable[[Store, Run], None], str]] = {
    "no metric": (_corrupt(lambda c: c["metrics"].pop("fid")), "it holds no fid"),
    "not defined": (
        _corrupt(lambda c: c.update(metrics={"kid": 0.1}, unavailable={"fid": "one channel"})),
        "it holds no fid: one channel",
    ),
    "not a number": (_corrupt(lambda c: c["metrics"].update(fid=float("nan"))), "fid is nan"),
    "too large": (_corrupt(lambda c: c["metrics"].update(fid=10**400)), "fid is 1000"),
    "less than any": (_corrupt(lambda c: c["metrics"].update(fid=-4.0)), "fid is -4.0; fid is 0 or more"),
    "of another sampler": (_corrupt(lambda c: c["spec"]["sampler"].update(intervals=7)), "its spec is of another meas"),
    "no sampler": (_corrupt(lambda c: c["spec"].pop("sampler")), "its spec is of another measurement; delete it"),
    "another training's spec": (_other_spec, "spec.json is not of this training; remove the folder"),
    "an edited spec": (_edited_spec, "spec.json is not of this training"),
    "a torn spec": (_torn_spec, "spec.json is broken"),
    "a word": (_corrupt(lambda c: c["metrics"].update(fid="<i>low</i>")), "fid is '<i>low</i>'"),
    "no protocol": (_corrupt(lambda c: c.pop("protocol")), "protocol: Field required"),
    "another run's": (_corrupt(lambda c: c.update(train_id="0" * 12)), "holds another measurement"),
    "torn heartbeat": (_heartbeat, "heartbeat.json: phase: Field required; delete it"),
    "a folder for a file": (_heartbeat_folder, "heartbeat.json: Is a directory"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_is_told_and_never_raised(tmp_path: Path, broken: str) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_broken, reason = BROKEN[broken]
    write_broken(store, table.runs[0])
    row = tidy_table(collect(store, [table])).iloc[0]
    assert (row["state"], row["metric"]) == ("unreadable", "fid")
    assert reason in row["reason"]
    assert str(tmp_path) not in row["reason"]
    assert pd.isna(row["value"])


def test_a_torn_log_and_strange_folders_do_no_harm(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0}})
    synthetic.write_text(store.run_folder(table.runs[0].train_id) / "train.jsonl", '{"step": 1, "loss": 2}\n{"step": ')
    synthetic.write_text(store.run_folder(table.runs[1].train_id), "a file where a folder should be")
    (store.root / "no run at all").mkdir()
    assert Counter(result.shown.state for result in collect(store, [table])) == {"done": 1, "not run": 11}


IMPOSSIBLE = {
    "precision": 1.7, "recall": -0.1, "coverage": 1.01, "memorisation": 2.0, "kid_std": -0.5, "inception_score": 0.5,
    "vendi:vit": 0.0, "cmmd": -3.0, "fd:vit": -1.0,
}  # fmt: skip
POSSIBLE = {
    "precision": 1.0,
    "recall": 0.0,
    "kid": -0.002,
    "fid_infinity": -3.0,
    "density": 1.7,
    "cmmd": -1e-9,
    "mine": -9.0,
}


def test_a_number_that_a_metric_cannot_have_costs_its_own_cell(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    bad, good = table.runs[:2]
    synthetic.write_measurement(store, bad, 5.0, further=IMPOSSIBLE)
    synthetic.write_measurement(store, good, 5.0, further=POSSIBLE)
    write_spec(store.run_folder(good.train_id), good.train)
    refused, taken = (result.metrics for result in collect(store, [table])[:2])
    assert {name for name, metric in refused.items() if metric.value is None} == set(IMPOSSIBLE)
    assert refused["precision"].reason == f"evals/{bad.eval_id}.json: precision is 1.7; precision is from 0 to 1"
    assert refused["fid"].value == 5.0
    assert {name: metric.value for name, metric in taken.items()}.items() >= POSSIBLE.items()
    page = Page(make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8"))
    assert page.text


def test_specs_are_read_once_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("convergence")
    synthetic.full_study(store, [table])
    trainings = {run.train_id: run.train for run in table.runs}
    for name, train in trainings.items():
        write_spec(store.run_folder(name), train)
    read, hashed = Counter[str](), Counter[str]()
    identity, canonical = records.spec_identity, spec.canonical
    monkeypatch.setattr(records, "spec_identity", lambda folder: read.update([folder.name]) or identity(folder))
    monkeypatch.setattr(spec, "canonical", lambda of: hashed.update([type(of).__name__]) or canonical(of))
    results = collect(store, [table])
    assert all(result.status.state == "done" for result in results)
    assert len(table.runs) > len(trainings)
    assert read == dict.fromkeys(trainings, 1)
    assert hashed == {"dict": len(trainings) + len({run.eval_id for run in table.runs})}
