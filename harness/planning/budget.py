"""Which rows answer most within a budget.

A row answers when it and its baseline are done, with all seeds; so a baseline is bought with the first row that is
compared to it, and one that nothing is compared to answers by itself. The rule: always the row next that costs least
beyond what is bought already, as long as it fits. It is a rule, not an optimum.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.config.grid import Cell, Run, Table
from harness.planning.cost import Prices
from harness.store.study import runs_by_training


@dataclass(frozen=True)
class Row:
    """A cell that answers something, and the runs it takes: its own and its baseline's."""

    table: Table
    cell: Cell
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Selection:
    """Rows in the order they were chosen, rows that did not fit, and what the chosen ones cost together."""

    chosen: tuple[Row, ...]
    left_out: tuple[Row, ...]
    hours: float


@dataclass
class Purchase:
    """What is bought already: of each training how many steps, and which measurements."""

    prices: Prices
    steps: dict[str, int] = field(default_factory=dict)
    measurements: set[str] = field(default_factory=set)

    def price(self, row: Row) -> float:
        """Return the hours that a row costs beyond what is bought."""
        prices, total = self.prices, 0.0
        unpaid = (run for run in row.runs if run.eval_id not in self.measurements and run.eval_id not in prices.done)
        for train_id, runs in runs_by_training(unpaid).items():
            have = max(self.steps.get(train_id, 0), prices.begun[train_id])
            total += max(0, max(run.evaluation.step for run in runs) - have) * prices.step[train_id]
            total += sum(sum(prices.measurement[run.eval_id]) for run in runs)
        return total

    def add(self, row: Row) -> None:
        """Buy a row."""
        for run in row.runs:
            self.measurements.add(run.eval_id)
            self.steps[run.train_id] = max(run.evaluation.step, self.steps.get(run.train_id, 0))


def rows(tables: Sequence[Table]) -> Iterator[Row]:
    """Yield every cell that answers something: all that have a baseline, and those that are nobody's."""
    for table in tables:
        baselines = {cell.at: table.baseline(cell) for cell in table.cells}
        compared = {baseline.at for baseline in baselines.values() if baseline}
        for cell in table.cells:
            baseline = baselines[cell.at]
            if baseline or cell.at not in compared:
                yield Row(table, cell, (*(baseline.runs if baseline else ()), *cell.runs))


def select_rows(tables: Sequence[Table], prices: Prices, budget: float) -> Selection:
    """Choose rows within a budget of device-hours; what is done already costs nothing."""
    candidates, purchase = list(rows(tables)), Purchase(prices)
    sharing = defaultdict[str, set[int]](set)  # which rows have a training
    for index, row in enumerate(candidates):
        for run in row.runs:
            sharing[run.train_id].add(index)
    hours = {index: purchase.price(row) for index, row in enumerate(candidates)}  # of those not chosen yet
    chosen, spent = list[int](), 0.0
    while hours:
        index = min(hours, key=hours.__getitem__)
        if spent + hours[index] > budget:
            break
        spent += hours.pop(index)
        chosen.append(index)
        purchase.add(candidates[index])
        for other in set().union(*(sharing[run.train_id] for run in candidates[index].runs)) & hours.keys():
            hours[other] = purchase.price(candidates[other])
    return Selection(tuple(candidates[index] for index in chosen), tuple(candidates[index] for index in hours), spent)
