"""Colours and markers: an arm has one pair of them on the whole page, and no two arms of a figure share one."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.report.figures.style import INK, ArmStyles, cell_styles


def test_an_arm_looks_the_same_in_every_table(tmp_path: Path) -> None:
    store, styles = synthetic.new_store(tmp_path), ArmStyles()
    table3, table4 = (pivot_of(store, synthetic.table_of(name)) for name in ("table3", "convergence"))
    first, second = cell_styles(table3, styles), cell_styles(table4, styles)
    default = next(style for name, style in first.items() if "default" in name)
    dispersive = next(style for style in second.values() if style.label != "baseline")
    assert (default.colour, default.marker) == (dispersive.colour, dispersive.marker)
    assert {style.colour for style in (*first.values(), *second.values()) if style.label == "baseline"} == {INK}


def test_no_two_arms_of_a_figure_look_alike(tmp_path: Path) -> None:
    store, styles = synthetic.new_store(tmp_path), ArmStyles()
    for name in ("table2", "table3", "table4", "table7a"):
        arms = {style.label: style for style in cell_styles(pivot_of(store, synthetic.table_of(name)), styles).values()}
        looks = {(style.colour, style.marker) for style in arms.values()}
        assert len(looks) == len(arms), name
