"""Which rows answer most within a budget.

A row answers when it and its baseline are done, with all seeds; so a baseline is bought with the first row that is
compared to it, and one that nothing is compared to answers by itself. The rule: always the row next that costs least
beyond what is bought already, as long as it fits. It is a rule, not an optimum.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.config.grid import Cell, Run, Table
from harness.planning.cost import Prices


@dataclass(frozen=True)
class Row:
    """A cell that answers something, and the runs it takes: its own and its baseline's."""

    table: Table
    cell: Cell
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Fit:
    """Rows in the order they were chosen, rows that did not fit, and what the chosen ones cost together."""

    chosen: tuple[Row, ...]
    left_out: tuple[Row, ...]
    hours: float


@dataclass
class Basket:
    """What is bought already: of each training how many steps, and which measurements."""

    prices: Prices
    steps: dict[str, int] = field(default_factory=dict)
    measurements: set[str] = field(default_factory=set)

    def price(self, row: Row) -> float:
        """Return the hours that a row costs beyond what is bought."""
        prices, total, last = self.prices, 0.0, dict[str, int]()
        for run in {run.eval_id: run for run in row.runs}.values():
            if run.eval_id in self.measurements or run.eval_id in prices.done:
                continue
            total += sum(prices.measurement[run.eval_id])
            last[run.train_id] = max(run.evaluation.step, last.get(run.train_id, 0))
        for train_id, step in last.items():
            have = max(self.steps.get(train_id, 0), prices.begun[train_id])
            total += max(0, step - have) * prices.step[train_id]
        return total

    def add(self, row: Row) -> set[str]:
        """Buy a row; return the trainings of which something new was bought."""
        new = [run for run in row.runs if run.eval_id not in self.measurements]
        for run in new:
            self.measurements.add(run.eval_id)
            self.steps[run.train_id] = max(run.evaluation.step, self.steps.get(run.train_id, 0))
        return {run.train_id for run in new}


def rows(tables: Sequence[Table]) -> Iterator[Row]:
    """Yield every cell that answers something: all that have a baseline, and those that are nobody's."""
    for table in tables:
        baselines = {cell.at: table.baseline(cell) for cell in table.cells}
        compared = {baseline.at for baseline in baselines.values() if baseline}
        for cell in table.cells:
            baseline = baselines[cell.at]
            if baseline or cell.at not in compared:
                yield Row(table, cell, (*(baseline.runs if baseline else ()), *cell.runs))


def fit(tables: Sequence[Table], prices: Prices, budget: float) -> Fit:
    """Choose rows within a budget of device-hours; what is done already costs nothing."""
    candidates, basket = list(rows(tables)), Basket(prices)
    sharing: dict[str, set[int]] = {}
    for index, row in enumerate(candidates):
        for run in row.runs:
            sharing.setdefault(run.train_id, set()).add(index)
    extra = [basket.price(row) for row in candidates]
    heap = [(hours, index) for index, hours in enumerate(extra)]
    heapq.heapify(heap)
    chosen: dict[int, None] = {}
    spent = 0.0
    while heap:
        hours, index = heapq.heappop(heap)
        if index in chosen or hours != extra[index]:  # bought, or cheaper by now and further up
            continue
        if spent + hours > budget:
            break
        chosen[index], spent = None, spent + hours
        changed = basket.add(candidates[index])
        for other in set[int]().union(*(sharing[train_id] for train_id in changed)) - chosen.keys():
            extra[other] = basket.price(candidates[other])
            heapq.heappush(heap, (extra[other], other))
    left = tuple(row for index, row in enumerate(candidates) if index not in chosen)
    return Fit(tuple(candidates[index] for index in chosen), left, spent)
