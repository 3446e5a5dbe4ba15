"""What `harness plan` says of costs, and the options of it that other commands have too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from harness.config.grid import Table
    from harness.planning.throughput import Assumption
    from harness.store.store import Store

HOURS = click.FloatRange(min=0)
gpu_option = click.option("--gpu", default="H200", show_default=True,
                          help="GPU whose speed is assumed where no earlier run has measured one.")  # fmt: skip
utilisation_option = click.option("--utilisation", type=click.FloatRange(0, 1, min_open=True),
                                  help="Share of its peak that is assumed; else 0.3 in bf16, 0.6 in fp32.")  # fmt: skip
price_option = click.option("--gpu-hour-price", "price", type=HOURS, help="Price of a GPU-hour, in any currency.")
limit_option = click.option("--max-gpu-hours", "limit", type=HOURS, help="Refuse what needs more than this.")
fit_option = click.option("--fit", "budget", type=HOURS, help="Propose the rows that fit in so many GPU-hours.")


def assume(gpu: str, utilisation: float | None) -> "Assumption":
    """Return what is assumed of a GPU.

    Raises:
        UserError: nothing is known of it.
    """
    from harness.planning.throughput import GPUS, Assumption

    if gpu not in GPUS:
        raise UserError(f"--gpu {gpu}: its peak is not known here{nearest(gpu, GPUS)}")
    return Assumption(gpu, utilisation)


def show_cost(tables: Sequence["Table"], store: "Store", assumption: "Assumption", price: float | None,
              limit: float | None, budget: float | None) -> None:  # fmt: skip
    """Print what tables cost, and what a budget buys of them.

    Raises:
        UserError: what is left to do costs more than the limit.
    """
    from harness.commands.cost_listing import print_cost, print_fit
    from harness.planning.budget import fit
    from harness.planning.cost import Prices, refuse_beyond

    runs = [run for table in tables for run in table.runs]
    prices = Prices(runs, store, assumption)
    print_cost(tables, prices, price)
    if budget is not None:
        print_fit(fit(tables, prices, budget), prices, budget)
    if limit is not None:
        refuse_beyond(limit, prices, runs)


def check_limit(tables: Sequence["Table"], store: "Store", limit: float) -> None:
    """Refuse to send what is too dear, by the study's own speeds or those of the GPU that `plan` assumes by default.

    Raises:
        UserError: what is left to do costs more than the limit.
    """
    from harness.planning.cost import Prices, refuse_beyond

    runs = [run for table in tables for run in table.runs]
    refuse_beyond(limit, Prices(runs, store, assume("H200", None)), runs)
