"""Arms and groups of them, on synthetic runs of several tables."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.report.analysis.arms import arm_groups, arm_key


def test_cells_of_one_regulariser_are_one_arm_of_all_tables_and_lengths(tmp_path: Path) -> None:
    store, tables = synthetic.new_store(tmp_path), [synthetic.table_of(name) for name in ("table3", "convergence")]
    synthetic.full_study(store, tables)
    pivots = [pivot_of(store, table) for table in tables]
    (group,) = arm_groups(pivots)
    assert len(group.arms) == len({arm_key(run) for table in tables for run in table.runs})
    baseline = next(arm for arm in group.arms if not arm_key(arm.cells[0].source.runs[0]))
    assert {cell.source.runs[0].table for cell in baseline.cells} == {"table3", "convergence"}
    assert set(baseline.measured) == {run.evaluation.step for table in tables for run in table.runs}
    values = pivots[0].cells[0].values
    assert baseline.values(pivots[0].cells[0].source.runs[0].evaluation.step).keys() == values.keys()
    assert baseline.values(7) == {}
