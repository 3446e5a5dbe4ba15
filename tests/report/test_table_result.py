"""All that is known of one table: its verdicts, its tests, and sentences that follow its numbers."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of, write_values

from harness.report.analysis.table_result import TableResult


def test_changes_with_an_interval_are_tested_and_their_tests_explained(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0, 1: 4.6}, "all": {0: 4.5, 1: 4.3}, "1 of 12": {0: 4.0}})
    result = TableResult(pivot_of(store, table))
    assert [cell.row for cell in result.tested] == ["all"]
    assert [cell.row for cell in result.judged] == [cell.row for cell in result.pivot.cells if not cell.is_baseline]
    assert (result.count("with one seed"), result.count("without value")) == (1, 3)
    first, second = result.test_sentences
    assert "corrected for the 1 change of this table" in first
    assert "it cannot give less than 0.500 with 2 seeds" in second


def test_a_table_without_intervals_has_nothing_to_say_of_tests(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0}, "all": {0: 4.5}})
    result = TableResult(pivot_of(store, table))
    assert result.tested == result.test_sentences == []
    assert result.findings[-1] == "Of its 6 cells, four have no mean yet."


def test_findings_follow_the_numbers(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    values = {
        "none": {0: 5.0, 1: 5.0},
        "all": {0: 4.0, 1: 4.0},
        "1 of 12": {0: 6.0, 1: 7.0},
        "7 of 12": {0: 4.9, 1: 4.9},
    }
    write_values(store, table, values)
    sentences = TableResult(pivot_of(store, table)).findings
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
    sentences = TableResult(pivot_of(store, table)).findings
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
    (sentence,) = TableResult(laid_out).findings
    assert sentence.startswith(f"From the best mean to the worst: “{laid_out.cells[-1].name}” (1.00), “")
    assert sentence.endswith("; they are sampled or measured differently, as the letters say.")
    assert not any(cell.is_best for cell in laid_out.cells)
