"""All that is known of one table: its verdicts, its tests, and what is said of them."""

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
