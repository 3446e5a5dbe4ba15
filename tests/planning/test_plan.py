"""The plan of many tables: each training once, in sentences that name what stands in for the paper's lengths."""

import subprocess
import sys

from support.places import PAPER_GRIDS, ROOT

from harness.config.grid import load_table
from harness.planning.plan import plan, summary
from harness.store.store import Store
from harness.store.study import trainings


def tables(scale, *names):
    return [load_table(ROOT / "grids" / f"{name}.yaml", scale) for name in names or PAPER_GRIDS]


def test_plan_of_all_tables_needs_no_torch_and_counts_trainings_once():
    code = """
import sys
sys.modules["torch"] = None
from harness.cli import main
sys.argv = ["harness", "plan", *sys.argv[1:]]
main()
"""
    grids = [f"grids/{name}.yaml" for name in PAPER_GRIDS]
    done = subprocess.run(
        [sys.executable, "-c", code, *grids, "--scale", "imagenet256"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    runs = [line.split("\t") for line in done.stdout.splitlines() if "\tto run\t" in line]
    assert {run[5] for run in runs} == {training.train_id for training in trainings(tables("imagenet256"))}
    assert "52 distinct trainings" in done.stdout


def test_long_trainings_are_stood_in_for_and_the_plan_says_so(tmp_path):
    (table,) = tables("digits", "table5")
    steps = {cell.settings.epochs: cell.runs[0].evaluation.step for cell in table.cells}
    assert steps == {80: 80 * 8, 800: 160 * 8, 1400: 240 * 8}
    store = Store(tmp_path, tmp_path, "study")
    assert summary(plan([table], store)).endswith(
        "4 trainings; 1,280 steps stand for the paper’s 800 epochs, 1,920 for 1,400"
    )
    (paper,) = tables("imagenet256", "table5")
    assert {cell.runs[0].evaluation.step for cell in paper.cells} == {400_000, 4_000_000, 7_000_000}
    assert paper.stand_ins == ""
