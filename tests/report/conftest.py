"""Layouts of synthetic tables, made once for all tests of what is printed of them."""

import pytest
from support import synthetic_study as synthetic
from support.printed_tables import HOSTILE, NAMES, layouts_of, table_with_row

from harness.report.rendering.sheet import TableLayout


@pytest.fixture(scope="session")
def full_layouts(tmp_path_factory: pytest.TempPathFactory) -> list[TableLayout]:
    """A study of six tables with a gap in the second."""
    store, tables = synthetic.new_store(tmp_path_factory.mktemp("full")), [synthetic.table_of(name) for name in NAMES]
    synthetic.full_study(store, tables)
    run = synthetic.cell_of(tables[1], "1 of 12").runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    return layouts_of(store, tables)


@pytest.fixture(scope="session")
def hostile_layout(tmp_path_factory: pytest.TempPathFactory) -> TableLayout:
    """Table 3 with a row whose name is markup, and a run that failed with the same words."""
    folder = tmp_path_factory.mktemp("hostile")
    store, table = synthetic.new_store(folder), table_with_row(folder, HOSTILE)
    synthetic.full_study(store, [table])
    run = synthetic.cell_of(table, "1 of 12").runs[0]
    store.eval_path(run.train_id, run.eval_id).unlink()
    synthetic.write_error(store, run, "error", HOSTILE)
    return layouts_of(store, [table])[0]
