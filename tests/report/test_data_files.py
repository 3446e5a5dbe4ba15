"""What is taken away from a report: CSV that is safe in a spreadsheet, and everything as JSON."""

import csv
import io
import json
import math
import string
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import regex
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
    frame = pd.DataFrame({"words": ["a, b", 'say "c"', "two lines"], "none": ["", "d", ""]} | numbers)
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


# As OWASP's page on CSV injection lists them, with what hides a sign or begins a cell of its own.
FORMULAS = (
    "=1+1", "+a", "-a", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1", "\u00a0=1", "\u3000=1", "\ufeff=1",
    "\u200b=1", "\0=1", "\x85=1", "\u2028=1", "＝1+1", "＋1", "－1", "＠SUM(A1)", " ＝1", "﹦1", "-1+cmd|' /C calc'!A0",
    "a;=1",
    "a; =1", "a\r=1", "a\n;@b",
)  # fmt: skip


def test_whatever_unicode_holds_compatible_with_a_sign_behind_whatever_is_not_seen_begins_no_cell() -> None:
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    compatible = everything[: everything.index("\U00020000")]  # above are ideographs
    signs = [sign for sign in compatible if unicodedata.normalize("NFKC", sign)[:1] in tuple("=+-@")]
    hidden = regex.findall(r"[\p{DI}\p{White_Space}]", everything)
    assert len(signs) > 12
    assert {"\u00ad", "\u180e", "\u3164", "\u00a0"} < set(hidden)
    assert [f"U+{ord(sign):04X}" for sign in signs if "'" not in str(shown_as_text(f"{sign}A1"))] == []
    assert [f"U+{ord(c):04X}" for c in hidden if "'" not in str(shown_as_text(f"{c}=A1"))] == []


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_any_reader_begins_with_a_sign(text: str) -> None:
    """Read as by a spreadsheet with either separator, with rows that end wherever a line may end."""
    content = csv_of(pd.DataFrame({text: [text, 1.5], "words": ["b", text]}))
    for separator in ",;":
        for line in content.splitlines():
            for cell in next(csv.reader([line], delimiter=separator)):
                bare = unicodedata.normalize("NFKC", cell).strip("\ufeff\u200b" + string.whitespace)
                assert not bare.startswith(("=", "+", "-", "@")), (cell, line)
    assert len(content.splitlines()) == 3


def test_what_is_no_formula_is_left_as_it_is() -> None:
    values = (-0.5, "-0.5", "−11 %", "a=b", "a - b", "λ = 0.5", "; ", "", None, True)
    assert [shown_as_text(value) for value in values] == list(values)
    assert [shown_as_text(text) for text in ("two\nlines", "\tb", "=a\r\nb")] == ["two lines", " b", "'=a b"]


def test_two_headers_that_become_alike_keep_their_columns() -> None:
    frame = pd.DataFrame([["x", "y"]], columns=["a\tb", "a b"])
    assert csv_of(frame) == "a b,a b\nx,y\n"


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
