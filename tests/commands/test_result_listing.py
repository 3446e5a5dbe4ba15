"""The tables at the end of a run, against means and changes taken here."""

from statistics import fmean, stdev

from support.places import GRIDS, ROOT
from support.synthetic_study import new_store, table_of, write_measurement

from harness.commands.result_listing import show_results

SEEDS = "seeds=[0,1,2]"


def test_a_cell_is_a_line_with_its_mean_its_change_and_the_papers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    table, store = table_of("table3", "digits", SEEDS), new_store(tmp_path)
    store.record_grid("table3", GRIDS / "table3.yaml", "digits", [SEEDS])
    values = {cell: [4.0 + cell + 0.1 * seed * (cell + 1) for seed in range(3)] for cell in range(len(table.cells) - 1)}
    for index, cell in enumerate(table.cells[:-1]):
        for run in cell.runs:
            write_measurement(store, run, values[index][run.seed])
    show_results(store, ["table3"])
    title, heading, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert title == ["# Table 3, study at scale digits, FID ↓"]
    assert heading == ["table", "cell", "n", "ours", "change", "paper", "its change"]
    for index, row in enumerate(rows[:-1]):
        mean, base = fmean(values[index]), fmean(values[0])
        assert row[2] == "3"
        assert row[3].split() == [f"{mean:.2f}", "±", f"{stdev(values[index]):.2f}"]
        if index:
            assert row[4].startswith(f"+{100 * (mean / base - 1):.1f}\u202f% [")
            assert row[4].endswith("worse")
    assert rows[0][4:] == ["", "36.49", ""]
    assert rows[-1][2:5] == ["", "not run", ""]
