"""`harness plan`: what would run, and what it costs."""

import click

from harness.commands import console, options
from harness.commands.grid_commands.request import Request, requested, warn_of_other_code
from harness.config.grid import all_runs
from harness.planning import budget, cost


@click.command()
@requested
@click.option("--gpu", default="H200", help="GPU whose speed is assumed where no earlier run has measured one.")
@click.option("--utilisation", type=options.FiniteRange(0, 1, min_open=True),
              help="Share of its peak that is assumed; else 0.3 in bf16, 0.6 in fp32.")  # fmt: skip
@click.option("--gpu-hour-price", "price", type=options.HOURS, help="Price of a GPU-hour, in any currency.")
@options.filtered
@options.gpu_hours
@click.option("--fit", "hours", type=options.HOURS, help="Propose the rows that fit in so many GPU-hours.")
def plan(request: Request, gpu: str, utilisation: float | None, price: float | None, only: options.Filter,
         limit: float | None, hours: float | None) -> None:  # fmt: skip
    """List every run of GRIDS, and what they cost.

    Of each run: why it would run, that it is done, or which other table shares its training. Into a file or a pipe it
    writes tabs between the columns, and # before what is no row.

    \b
    harness plan grids/table2.yaml --scale digits
    harness plan grids/*.yaml --scale imagenet256 --gpu A100 --fit 500
    harness plan grids/*.yaml --scale digits --table 2 --arm dispersive
    """
    tables = only.of(request.tables())
    warn_of_other_code(request.store)
    done = console.print_plan(tables, request.store, only.failed)
    prices = cost.Prices(all_runs(tables), request.store, cost.Assumption(gpu, utilisation))
    console.print_cost(tables, prices, price)
    console.print_next(done, options.words_for(request.store), "the same after 'harness run', or 'harness submit'")
    if hours is not None:
        console.print_selection(budget.select_rows(tables, prices, hours), prices, hours)
    if limit is not None:
        prices.refuse_beyond(limit)
