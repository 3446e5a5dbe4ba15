"""The hours of docs/one-gpu.md and of the README are those that `harness plan` prints."""

import re

import pytest
from support.places import GRIDS, ROOT

from harness.config.grid import load_table
from harness.planning.cost import Assumption, Prices
from harness.store.store import Store

PAGE = (ROOT / "docs" / "one-gpu.md").read_text("utf-8")


@pytest.mark.parametrize(("row", "overrides"), [("three seeds", ()), ("with `--set 'seeds=", ("seeds=[0]",))])
def test_the_page_says_what_plan_prints(tmp_path, row, overrides):
    table = load_table(GRIDS / "table2.yaml", "cifar10", overrides)
    cost = Prices(table.runs, Store(tmp_path, tmp_path, "cifar10"), Assumption("RTX4090")).cost(table.runs)
    (line,) = re.findall(rf"^\| {re.escape(row)}.*$", PAGE, re.MULTILINE)
    *_, trainings, training, sampling, measuring, references, hours = (
        cell.strip() for cell in line.strip("|").split("|")
    )
    assert int(trainings) == len({run.train_id for run in table.runs})
    for printed, exact in zip((training, sampling, hours), (cost.training, cost.sampling, cost.hours), strict=True):
        assert printed == f"{exact:.1f}", "harness plan grids/table2.yaml --scale cifar10 --gpu RTX4090"
    assert float(measuring) == pytest.approx(cost.measuring, rel=0.05)
    assert float(references) == pytest.approx(cost.references, rel=0.05)
    if not overrides:
        assert f"{hours} hours by `plan`" in (ROOT / "README.md").read_text("utf-8")
