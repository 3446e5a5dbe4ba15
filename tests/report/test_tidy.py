"""The tidy table: a row for each result and metric, with all that they share."""

from pathlib import Path

import pandas as pd
import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import write_values

from harness.errors import UserError
from harness.report.reading import tidy
from harness.report.reading.collect import collect
from harness.report.reading.protocol import TRAINING_COLUMNS
from harness.report.reading.tidy import tidy_table
from harness.report.rendering.data_files import collect_study, write_results


def test_every_row_of_the_tidy_table_holds_the_training_s_protocol(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    frame = tidy_table(collect(store, [table]))
    protocols = frame[frame["metric"] == "fid"].drop_duplicates("cell").set_index("row")[list(TRAINING_COLUMNS)]
    assert protocols.loc["none"].tolist() == ["fp32", "(0.9, 0.95)", "0.98", ""]
    assert protocols.loc["all"].tolist() == ["fp32", "(0.9, 0.95)", "0.98", "16"]


def test_collect_gives_a_row_for_every_metric_and_for_every_run_that_is_not_done(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0}})
    frame = tidy_table(collect(store, [table]))
    assert len(frame) == 5 + 11  # five numbers of the one measurement, and eleven runs to go
    done = frame[frame["state"] == "done"].set_index("metric")
    assert done["value"].to_dict() == {"fid": 5.0, "kid": 0.0123, "kid_std": 0.001, "precision": 0.5, "recall": 0.25}
    assert done["direction"].to_dict() | {"kid_std": ""} == done["direction"].to_dict()
    assert set(done["nfe"]) == {2 * table.runs[0].evaluation.sampler.intervals}
    assert done["protocol"]["fid"].startswith("classifier-digits-1a2b3c4d5e6f · 1000 against 1437 digits/train · heun")
    missing = frame[frame["state"] == "not run"]
    assert set(missing["metric"]) == {"fid"}
    assert missing["value"].isna().all()
    write_results(frame, tmp_path / "tidy.csv")
    again = pd.read_csv(tmp_path / "tidy.csv", keep_default_na=False)
    assert list(again.columns) == list(frame.columns)
    assert again["value"].tolist() == ["5.0", "0.0123", "0.001", "0.5", "0.25", *[""] * 11]
    assert again["generated"].tolist() == ["1000"] * 5 + [""] * 11


def test_a_table_that_would_fill_the_memory_is_refused_with_the_file_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    whole = tidy_table(collect(store, [table]))
    run = table.runs[3]
    synthetic.write_measurement(store, run, 5.0, {"x": "y" * 200}, further={f"m{index}": 1.0 for index in range(500)})
    monkeypatch.setattr(tidy, "LARGEST", len(whole.to_csv()) * 2)
    with pytest.raises(UserError, match=f"^{run.train_id}/evals/{run.eval_id}.json: .* it is most of a table of"):
        tidy_table(collect(store, [table]))


def test_parquet_holds_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    path = collect_study(store, tmp_path / "reports")
    assert pd.read_parquet(path.with_suffix(".parquet"))["value"].tolist() == pd.read_csv(path)["value"].tolist()
