"""Tables of numbers against values worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import pivot_cell, pivot_of, write_values

from harness.metric_definitions import DEFINITIONS
from harness.report.analysis.table_result import TableResult
from harness.report.analysis.text import state_words
from harness.report.rendering.page import make_report


def test_means_spreads_and_changes_are_those_of_hand_computation(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0, 1: 4.6}, "all": {0: 4.5, 1: 4.3}})
    laid_out = pivot_of(store, table)
    baseline, all_blocks = pivot_cell(laid_out, "none"), pivot_cell(laid_out, "all")
    assert baseline.ours
    assert all_blocks.ours
    assert all_blocks.change
    assert (baseline.ours.mean, baseline.ours.spread) == pytest.approx((4.8, 0.2828427))
    assert (all_blocks.ours.mean, all_blocks.ours.spread) == pytest.approx((4.4, 0.1414214))
    # Differences by seed are −0.5 and −0.3, with standard deviation 0.1414214; both over the baseline's mean of 4.8.
    assert (all_blocks.change.percent, all_blocks.change.spread) == pytest.approx((-8.333333, 2.946278))
    assert all_blocks.change.paired
    assert all_blocks.paper_percent == pytest.approx(100 * (32.05 - 36.49) / 36.49)
    assert baseline.change is None
    assert baseline.is_baseline
    assert [cell.row for cell in laid_out.cells if cell.is_best] == ["all"]


def test_a_seed_is_compared_with_its_own_baseline(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0, 1: 4.6}, "all": {1: 4.14}})
    cell = pivot_cell(pivot_of(store, table), "all")
    assert cell.ours
    assert cell.change
    assert (cell.ours.mean, cell.ours.spread) == (4.14, None)
    assert (cell.change.percent, cell.change.spread, cell.change.seeds) == (pytest.approx(-10.0), None, (1,))
    assert state_words(cell) == "seed 0 not run"


def test_without_a_common_seed_the_means_are_compared_and_the_page_says_so(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0}, "all": {1: 4.0}})
    cell = pivot_cell(pivot_of(store, table), "all")
    assert cell.change
    assert (cell.change.percent, cell.change.paired) == (pytest.approx(-20.0), False)
    assert "means of different seeds" in make_report(store, [table], tmp_path / "page").read_text(encoding="utf-8")


def test_the_best_cell_follows_the_direction_of_the_metric(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    write_values(store, table, {"none": {0: 5.0}, "all": {0: 4.0}, "1 of 12": {0: 6.0}})
    upwards = replace(DEFINITIONS["fid"], direction="higher")
    assert [cell.row for cell in pivot_of(store, table).cells if cell.is_best] == ["all"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEFINITIONS, "fid", upwards)
        laid_out = pivot_of(store, table)
        assert [cell.row for cell in laid_out.cells if cell.is_best] == ["1 of 12"]
        assert TableResult(laid_out).findings[0] == "A better mean than our baseline’s: one of two cells."


def test_a_scale_that_means_nothing_has_no_best(tmp_path: Path) -> None:
    for scale, best in (("digits", 1), ("smoke", 0)):
        store, table = synthetic.new_store(tmp_path / scale), synthetic.table_of("table4", scale)
        synthetic.full_study(store, [table])
        assert sum(cell.is_best for cell in pivot_of(store, table).cells) == best
