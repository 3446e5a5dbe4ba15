"""The tables in the course of a run and at its end, against means and changes taken here."""

import time
from pathlib import Path
from queue import Queue
from statistics import fmean, stdev
from urllib.request import urlopen

import pytest
from support.places import GRIDS, ROOT
from support.synthetic_study import new_store, table_of, write_measurement

from harness.commands import report
from harness.commands.result_listing import show_tables
from harness.commands.terminal import Listing
from harness.config.grid import Run
from harness.jobs import local_pool
from harness.store.status import RunStatus
from harness.store.store import Store

SEEDS = "seeds=[0,1,2]"


def test_a_cell_is_a_line_with_its_mean_its_change_and_the_papers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    table, store = table_of("table3", "digits", SEEDS), new_store(tmp_path)
    store.record_grid("table3", GRIDS / "table3.yaml", "digits", [SEEDS])
    values = {cell: [4.0 + cell + 0.1 * seed * (cell + 1) for seed in range(3)] for cell in range(len(table.cells) - 1)}
    for index, cell in enumerate(table.cells[:-1]):
        for run in cell.runs:
            write_measurement(store, run, values[index][run.seed])
    show_tables(store, [table])
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


def measured(jobs, on_change) -> None:
    """Stand for a pool that has done the jobs."""
    for job in jobs:
        on_change(job, None)
        for spec in job.evaluations:
            write_measurement(job.store, Run("", (), job.train.seed, job.train, spec, job.resources), 3.0)
        on_change(job, RunStatus("done"))


def test_the_first_table_comes_with_the_first_seed_of_all_rows(project, harness, monkeypatch):
    """Each further seed of all rows gives another, and the last only that of the end."""
    monkeypatch.setattr(local_pool, "run_inline", lambda jobs, on_change, deadline: measured(jobs, on_change))
    code, out, _ = harness("run", "grids/table3.yaml", "--scale", "smoke", "--set", "seeds=[2,0,1]")
    seeds = [int(line.partition("seed ")[2][0]) for line in out.splitlines() if ", seed " in line]
    rows = len(seeds) // 3
    assert (code, seeds) == (0, [0] * rows + [1] * rows + [2] * rows)
    counts = [line.split("\t")[2] for line in out.splitlines() if line.startswith("table3\t")]
    assert counts == ["1"] * len(counts[::3]) + ["2"] * len(counts[::3]) + ["3"] * len(counts[::3])
    assert out.splitlines()[-1] == "Next: harness report smoke"


@pytest.mark.slow
@pytest.mark.waits
def test_the_report_of_a_run_takes_in_results_and_is_left_in_the_end(project, harness, monkeypatch):
    table, store = table_of("table3", "smoke"), Store(project / "results", project / "scratch", "smoke")
    store.record_grid("table3", Path("grids/table3.yaml"), "smoke", [])
    lines: Queue[str] = Queue()
    monkeypatch.setattr(report, "say", lambda words, err=False: lines.put(words))
    monkeypatch.setattr(report, "SECONDS", 0.1)
    with report.following_report(store, project / "reports"):
        address = lines.get(timeout=120).split()[-1]
        for run in table.runs:
            write_measurement(store, run, 3.0)
        count = len({run.eval_id for run in table.runs})  # of so few blocks, two rows are one training
        wanted = f"{count} of {count} measurements done".encode()
        end = time.monotonic() + 120
        while wanted not in urlopen(f"{address}progress.json").read():
            assert time.monotonic() < end
            time.sleep(0.1)
    code, _, err = harness("run", "grids/table3.yaml", "--scale", "smoke", "--report")
    page = project / "reports" / "smoke" / "index.html"
    assert (code, err, lines.get(timeout=1)) == (0, "", f"Report: {page.as_uri()}")
    assert "3.00" in page.read_text("utf-8")


def test_room_goes_first_to_the_column_that_lacks_least():
    rows = [{"a": "x" * 20, "b": "y" * 30, "c": "z" * 40}]
    assert Listing("", rows, {"b": 10, "c": 38}).widths(20 + 2 + 20 + 2 + 40) == {"a": 20, "b": 20, "c": 40}
