"""Prices on the terminal: each table and all together, and the rows that a budget buys."""

from collections.abc import Sequence

from harness.commands.console import console, grid
from harness.config.grid import Table
from harness.planning.budget import Fit, Row
from harness.planning.cost import Cost, Prices

COLUMNS = ("", "trainings", "training", "sampling", "measuring", "hours", "left to do", "checkpoints")
ROW_COLUMNS = ("table", "row")


def print_cost(tables: Sequence[Table], prices: Prices, price: float | None) -> None:
    """Print what each table and all of them cost; price: of one device-hour, in whatever currency."""
    lines = [_line(table.name, [table], prices) for table in tables]
    if len(tables) > 1:
        lines.append(_line("all, each training once", tables, prices))
    console().print(grid(f"Cost in {prices.unit}-hours", COLUMNS, lines), "")
    everything = prices.cost((run for table in tables for run in table.runs), left=True)
    money = f"; at {price:g} an hour, what is left costs {everything.hours * price:,.0f}" if price else ""
    console().print(f"{prices.words}{money}")


def _line(name: str, tables: Sequence[Table], prices: Prices) -> list[str]:
    runs = [run for table in tables for run in table.runs]
    whole, left = prices.cost(runs), prices.cost(runs, left=True)
    trainings = len({run.train_id for run in runs})
    parts = [hours_in_words(h) for h in (whole.training, whole.sampling, whole.measuring, whole.hours, left.hours)]
    return [name, str(trainings), *parts, _size(whole)]


def hours_in_words(hours: float) -> str:
    """Return hours with about three digits: "5,230", "12.3", "0.041"."""
    if hours >= 100:
        return f"{hours:,.0f}"
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _size(cost: Cost) -> str:
    return f"{cost.bytes / 1e9:,.1f} GB"


def print_fit(found: Fit, prices: Prices, budget: float) -> None:
    """Print which rows a budget buys, and which it leaves out."""
    screen, count = console(), len(found.chosen) + len(found.left_out)
    spent = f"{hours_in_words(found.hours)} of {budget:g} {prices.unit}-hours"
    screen.print(f"\n{len(found.chosen)} of {count} rows fit: {spent}")
    screen.print(grid("", ROW_COLUMNS, [_row(row) for row in found.chosen]))
    if found.left_out:
        screen.print(f"\n{len(found.left_out)} rows are left out")
        screen.print(grid("", ROW_COLUMNS, [_row(row) for row in found.left_out]))
    screen.print(
        "\nThe rule: always the row next that costs least beyond what is bought, with its baseline and all seeds."
    )


def _row(row: Row) -> list[str]:
    return [row.table.name, " · ".join(label for _, label in row.cell.at)]
