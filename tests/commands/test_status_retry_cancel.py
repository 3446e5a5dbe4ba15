"""`harness status` in words, again and again, and as JSON."""

import json
import sys

import pytest
from support.places import ROOT
from support.synthetic_study import new_store, table_of, write_error, write_measurement

from harness import cli
from harness.commands.console import status_table
from harness.commands.status_retry_cancel import watch_status
from harness.store.study import training_statuses


@pytest.fixture
def study(tmp_path):
    table, store = table_of("table5", "digits", "seeds=[0]"), new_store(tmp_path)
    return table, store, table.cells[0].runs[0]


def test_the_command_in_words_and_as_json(study, monkeypatch, capsys):
    table, store, run = study
    root = ROOT
    monkeypatch.chdir(root)
    store.record_grid("table5", root / "grids" / "table5.yaml", "digits", ["seeds=[0]"])
    write_error(store, run, "diverged", "loss not finite")
    words = ["status", store.study, "--results", str(store.results), "--scratch", str(store.scratch)]
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    cli.main()
    out = capsys.readouterr().out
    assert "1 diverged" in out
    assert "not run" in out
    assert "loss not finite" in " ".join(out.split())
    monkeypatch.setattr(sys, "argv", ["harness", *words, "--json"])
    cli.main()
    content = json.loads(capsys.readouterr().out)
    assert {t["train_id"] for t in content["trainings"]} == {r.train_id for r in table.runs}
    assert {t["state"] for t in content["trainings"]} == {"diverged", "not run"}


def test_watching_ends_when_all_is_done(study, monkeypatch):
    table, store, _ = study
    root = ROOT
    monkeypatch.chdir(root)
    store.record_grid("table5", root / "grids" / "table5.yaml", "digits", ["seeds=[0]"])
    naps = []

    def nap(seconds):
        naps.append(seconds)
        for run in table.runs:
            write_measurement(store, run, 3.0)

    watch_status(store, nap)
    assert len(naps) == 1
    few = status_table("s", training_statuses([table], store), most=1)
    assert few.row_count == 1
