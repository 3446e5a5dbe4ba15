"""The hours of docs/one-gpu.md and of the README are those that `harness plan` prints."""

import re

import pytest
from support.places import GRIDS, ROOT

from harness.commands.console import hours_in_words
from harness.config.grid import load_table
from harness.planning.cost import Assumption, Prices
from harness.store.store import Store

COMMAND = "harness plan grids/table2.yaml --scale cifar10 --gpu RTX4090"
PAGE = (ROOT / "docs" / "one-gpu.md").read_text("utf-8")


@pytest.mark.parametrize(("row", "overrides"), [("three seeds", ()), ("with `--set 'seeds=", ("seeds=[0]",))])
def test_the_page_says_what_plan_prints(tmp_path, row, overrides):
    table = load_table(GRIDS / "table2.yaml", "cifar10", overrides)
    cost = Prices(table.runs, Store(tmp_path, tmp_path, "cifar10"), Assumption("RTX4090")).cost(table.runs)
    (line,) = re.findall(rf"^\| {re.escape(row)}.*$", PAGE, re.MULTILINE)
    _, *printed = (cell.strip() for cell in line.strip("|").split("|"))
    exact = (cost.training, cost.sampling, cost.measuring, cost.references, cost.hours)
    assert printed == [str(len({run.train_id for run in table.runs})), *map(hours_in_words, exact)], COMMAND
    if not overrides:
        assert f"{hours_in_words(cost.hours)} hours by `plan`" in (ROOT / "README.md").read_text("utf-8")
