"""Synthetic tables as they are printed."""

import shutil
from pathlib import Path

from support.synthetic_study import GRIDS, pivots_of

from harness.config.grid import Table, load_table
from harness.report.analysis.table_result import TableResult
from harness.report.rendering.sheet import TableLayout, table_layout
from harness.store.store import Store

NAMES = ("table2", "table3", "table4", "table6", "table7b", "figure4")
HOSTILE = r"<b>x</b> & $\frac{1}{2}$ 100% a_b ^~#{} `c` | [d](e) *f* -- \end{table} “λ” ℓ₂ é 中"


def layouts_of(store: Store, tables: list[Table]) -> list[TableLayout]:
    return [table_layout(TableResult(pivot)) for pivot in pivots_of(store, tables)]


def table_with_row(folder: Path, label: str) -> Table:
    """Table 3 with another name for its last row, from a copy of the grids in the folder."""
    shutil.copytree(GRIDS, folder / "grids")
    grid, quoted = folder / "grids" / "table3.yaml", f"'{label}'"
    text = grid.read_text(encoding="utf-8").replace("block: all", f"block: {quoted}").replace(", all]", f", {quoted}]")
    grid.write_text(text.replace("    all: {", f"    {quoted}: {{"), encoding="utf-8")
    return load_table(grid, "digits")
