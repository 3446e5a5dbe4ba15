"""What is taken away from a report: CSV that is safe in a spreadsheet, and everything as JSON."""

import io
import json
import math
from pathlib import Path

import pandas as pd
from support import synthetic_study as synthetic
from support.printed_tables import HOSTILE, NAMES

from harness.report.rendering.data_files import csv_of, shown_as_text, study_record, table_csv
from harness.report.rendering.page import make_report
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import study_summary


def test_the_csv_loads_with_the_numbers_of_the_page(full_layouts: list[TableLayout]) -> None:
    for layout in full_layouts:
        cells = layout.result.pivot.cells
        frame = pd.read_csv(io.StringIO(table_csv(layout)), keep_default_na=False, na_values=[""])
        assert len(frame) == len(cells)
        for (_, row), cell in zip(frame.iterrows(), cells, strict=True):
            assert cell.ours
            assert (row["mean"], row["best"]) == (cell.ours.mean, cell.is_best)
            if cell.change:
                assert row["change_percent"] == cell.change.percent
            if cell.paper:
                assert (row["paper"], row["paper_confidence"]) == (cell.paper.value, cell.paper.confidence)
            assert dict(cell.source.at).items() <= {key: str(value) for key, value in row.items()}.items()
    facts = pd.read_csv(io.StringIO(table_csv(full_layouts[NAMES.index("table6")])), keep_default_na=False)
    assert facts["paper: extra parameters"].tolist()[1] == "1.1B"


def test_a_long_csv_is_what_pandas_writes() -> None:
    numbers = {
        "seed": pd.array([1, None, -2], dtype="Int64"),
        "value": [0.1, math.nan, -1e-7],
        "best": [True, False, True],
    }
    frame = pd.DataFrame({"words": ["a, b", 'say "c"', "two\nlines"], "none": ["", "d", ""]} | numbers)
    assert csv_of(frame) == frame.to_csv(index=False, lineterminator="\n")


def test_a_formula_is_text_in_every_csv_and_a_number_stays_one(tmp_path: Path) -> None:
    table, formula = synthetic.table_of("table3"), '=HYPERLINK("http://x")'
    for name in ("first", "second"):
        store = synthetic.new_store(tmp_path, name)
        synthetic.full_study(store, [table])
        for run in synthetic.cell_of(table, "1 of 12").runs:
            store.eval_path(run.train_id, run.eval_id).unlink()
            synthetic.write_error(store, run, "error", formula)
    path = make_report(store, [table], tmp_path / "report")
    frame = pd.read_csv(path.with_name("results.csv"))
    assert set(frame["reason"].dropna()) == {f"'{formula}"}
    assert frame["value"].dtype == float
    texts = ("=1+1", "+a", "-a", "@SUM(A1)", "\ta", "\ra")
    assert [shown_as_text(text) for text in texts] == [f"'{text}" for text in texts]
    assert [shown_as_text(value) for value in (-0.5, "-0.5", "−11 %", "a=b", None)] == [
        -0.5,
        "-0.5",
        "−11 %",
        "a=b",
        None,
    ]


def test_the_record_holds_every_cell_and_run(full_layouts: list[TableLayout], hostile_layout: TableLayout) -> None:
    pivots = [layout.result.pivot for layout in full_layouts]
    summary = study_summary("study", pivots)
    record = json.loads(json.dumps(study_record(summary, full_layouts), allow_nan=False))
    assert [len(table["cells"]) for table in record["tables"]] == [len(pivot.cells) for pivot in pivots]
    cell = record["tables"][1]["cells"][0]
    baseline = pivots[1].cells[0]
    assert baseline.ours
    assert (cell["ours"]["mean"], cell["baseline"], cell["verdict"]) == (baseline.ours.mean, True, None)
    assert [run["train_id"] for run in cell["runs"]] == [run.train_id for run in baseline.runs]
    assert any(HOSTILE in line for line in study_record(summary, [hostile_layout])["tables"][0]["missing"])
