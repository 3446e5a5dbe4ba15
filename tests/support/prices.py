"""What tables cost in an empty study, by one assumption."""

from pathlib import Path

from support.synthetic_study import new_store

from harness.config.grid import Run, Table
from harness.planning.cost import Assumption, Prices

EVERY = Assumption("H100", 0.5)


def runs_of(*tables: Table) -> list[Run]:
    return [run for table in tables for run in table.runs]


def prices(folder: Path, *tables: Table) -> Prices:
    return Prices(runs_of(*tables), new_store(folder), EVERY)
