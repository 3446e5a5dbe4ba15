"""What a table shows, in sentences that follow its numbers."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of, write_values

from harness.report.analysis.findings import findings


def test_findings_follow_the_numbers(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    values = {
        "none": {0: 5.0, 1: 5.0},
        "all": {0: 4.0, 1: 4.0},
        "1 of 12": {0: 6.0, 1: 7.0},
        "7 of 12": {0: 4.9, 1: 4.9},
    }
    write_values(store, table, values)
    sentences = findings(pivot_of(store, table))
    assert sentences[0] == "A better mean than our baseline’s: two of three cells."
    assert sentences[1].replace("\u202f", " ") == "The best mean is that of “block all” (−20.0 %)."
    excludes = "The 95% interval of the change excludes zero in two of three"
    assert sentences[2] == f"{excludes}, and after Holm’s correction over the table in two of three."
    assert sentences[3] == "Comparing each seed with itself makes it 1.00 times as wide as between unrelated runs."
    assert sentences[4] == "It has the sign of the paper’s change in two of three where we know the paper’s."
    assert sentences[5:] == ["Of its 6 cells, two have no mean yet."]


def test_findings_compare_the_columns_of_table_2(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2")
    synthetic.full_study(store, [table])
    hinge = synthetic.cell_of(table, "Hinge", "dispersive")
    for run in hinge.runs:
        synthetic.write_measurement(store, run, 99.0)
    sentences = findings(pivot_of(store, table))
    assert "three of four under “dispersive”" in sentences[0]
    assert "“dispersive” in three of four" in sentences[2]


def test_rivals_that_are_sampled_differently_are_ordered_and_none_is_marked_best(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table7b")
    synthetic.full_study(store, [table])
    for place, cell in enumerate(table.cells):
        for run in cell.runs:
            synthetic.write_measurement(store, run, 5.0 - place)
    laid_out = pivot_of(store, table)
    assert len(laid_out.protocols) > 1
    (sentence,) = findings(laid_out)
    assert sentence.startswith(f"From the best mean to the worst: “{laid_out.cells[-1].name}” (1.00), “")
    assert sentence.endswith("; they are sampled or measured differently, as the letters say.")
    assert not any(cell.is_best for cell in laid_out.cells)
