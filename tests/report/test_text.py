"""Numbers in words."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.report.analysis.text import better_or_worse


def test_what_prints_as_zero_has_no_colour(tmp_path: Path) -> None:
    laid_out = pivot_of(synthetic.new_store(tmp_path), synthetic.table_of("table3"))
    percents = (-0.06, -0.04, 0.0, 0.04, 0.06)
    assert [better_or_worse(laid_out, p) for p in percents] == ["better", "same", "same", "same", "worse"]
