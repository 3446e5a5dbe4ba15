"""Results read from folders: every run has a record, and every gap its own words."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support import synthetic_study as synthetic
from support.html_page import Page
from support.synthetic_study import pivot_cell, pivot_of, write_values

from harness.config.grid import Run
from harness.report.analysis.text import state_words
from harness.report.reading.collect import collect
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.page import make_report
from harness.store.records import Measurement
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


BROKEN: dict[str, tuple[Callable[[Store, Run], None], str]] = {
    "no metric": (_corrupt(lambda c: c["metrics"].pop("fid")), "it holds no fid"),
    "not defined": (
        _corrupt(lambda c: c.update(metrics={"kid": 0.1}, unavailable={"fid": "one channel"})),
        "it holds no fid: one channel",
    ),
    "not a number": (_corrupt(lambda c: c["metrics"].update(fid=float("nan"))), "fid is nan"),
    "too large": (_corrupt(lambda c: c["metrics"].update(fid=10**400)), "fid is 1000"),
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
