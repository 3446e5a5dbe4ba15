"""What a budget buys: rows with their baselines and all seeds, as many as fit by the rule."""

from itertools import combinations

import pytest
from support.prices import prices
from support.synthetic_study import table_of

from harness.planning.budget import rows, select_rows


def test_a_budget_is_kept_and_a_row_comes_with_its_baseline(tmp_path):
    tables = [table_of(name, "imagenet256") for name in ("table2", "table7a", "table7b")]
    price = prices(tmp_path, *tables)
    selection = select_rows(tables, price, 400.0)
    bought = [run for row in selection.chosen for run in row.runs]
    assert selection.hours == pytest.approx(price.cost(bought, left=True).hours)
    assert selection.hours <= 400.0
    names = {(row.table.name, row.cell.at) for row in (*selection.chosen, *selection.left_out)}
    assert (
        len(names) == len(selection.chosen) + len(selection.left_out) == 12 + 4 + 5
    )  # a baseline is no row of its own
    for row in selection.chosen:
        baseline = row.table.baseline(row.cell)
        assert baseline is None or set(baseline.runs) <= set(row.runs)
    for row in selection.left_out:
        assert price.cost([*bought, *row.runs], left=True).hours > 400.0


def test_the_rule_buys_as_many_rows_as_can_be_bought_of_a_small_table(tmp_path):
    table = table_of("table7a", "imagenet256")
    price, candidates = prices(tmp_path, table), list(rows([table]))
    for budget in (0.0, 60.0, 200.0, 1e6):
        best = max(
            n
            for n in range(len(candidates) + 1)
            for chosen in combinations(candidates, n)
            if price.cost([run for row in chosen for run in row.runs], left=True).hours <= budget
        )
        assert len(select_rows([table], price, budget).chosen) == best


def test_a_reference_is_paid_by_the_first_row_and_by_none_where_it_is_measured_against_already(tmp_path):
    table = table_of("table2", "imagenet256")
    price, candidates = prices(tmp_path, table), list(rows([table]))
    once = price.cost(table.runs).references
    assert once > 0
    assert sum(price.cost(row.runs).references for row in candidates) == pytest.approx(once * len(candidates))
    chosen = select_rows([table], price, 1e6)
    assert chosen.hours == pytest.approx(price.cost(table.runs).hours)
    assert price.cost_beyond({}, [table.runs[0].eval_id], table.runs).references == 0
    other = table_of("table2", "imagenet256", "evaluation.reference_part=null")
    assert prices(tmp_path, table, other).cost([*table.runs, *other.runs]).references > 1.9 * once
