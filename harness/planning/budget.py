"""Which rows answer most within a budget.

A row answers when it and its baseline are done, with all seeds; so a baseline is bought with the first row that is
compared to it, and one that nothing is compared to answers by itself. The rule: always the row next that costs least
beyond what is bought already, as long as it fits. It is a rule, not an optimum.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.config.grid import Cell, Run, Table
from harness.planning.cost import Prices


@dataclass(frozen=True)
class Row:
    """A cell that answers something, and the runs it takes: its own and its baseline's."""

    table: Table
    cell: Cell
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Selection:
    """Rows in the order they were chosen, rows that did not fit, and what the chosen ones cost together."""

    chosen: list[Row]
    left_out: list[Row]
    hours: float


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
    candidates, steps, measurements = list(rows(tables)), dict(prices.begun), set(prices.done)  # these two are bought
    sharing = defaultdict[object, set[int]](set)  # which rows have a training, or a reference that is new
    new = set(prices.once) - {prices.reference[name] for name in prices.done}
    for index, row in enumerate(candidates):
        for run in row.runs:
            sharing[run.train_id].add(index)
            sharing[prices.reference[run.eval_id]].add(index)

    def price(index: int) -> float:
        return prices.cost_beyond(steps, measurements, candidates[index].runs).hours

    hours = {index: price(index) for index in range(len(candidates))}  # of those not chosen yet
    chosen, spent = list[Row](), 0.0
    while hours:
        index = min(hours, key=hours.__getitem__)
        if spent + hours[index] > budget:
            break
        spent += hours.pop(index)
        chosen.append(candidates[index])
        for run in candidates[index].runs:
            measurements.add(run.eval_id)
            steps[run.train_id] = max(run.evaluation.step, steps[run.train_id])
        bought = {prices.reference[run.eval_id] for run in candidates[index].runs} & new
        changed = [*bought, *(run.train_id for run in candidates[index].runs)]
        for other in set().union(*(sharing[key] for key in changed)) & hours.keys():
            hours[other] = price(other)
        new -= bought
    return Selection(chosen, [candidates[index] for index in hours], spent)
