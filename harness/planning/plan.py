"""What would run, what is done, and what several tables share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.grid import Cell, Run, Table, load_table
from harness.errors import UserError
from harness.store.store import Status, Store


@dataclass(frozen=True)
class Planned:
    """One run of a plan and why it is there."""

    table: Table
    run: Run
    status: Status
    shared_with: tuple[str, ...]

    @property
    def why(self) -> str:
        """Say in words why it would run, or that it would not."""
        reason = f" ({self.status.reason})" if self.status.reason else ""
        at = f"{self.status.phase}, step {self.status.step} of {self.status.total}"
        words = {"done": "done", "running": f"running: {at}", "not run": "to run"}
        return words.get(self.status.state, f"to run again: {self.status.state}{reason}")


def plan(tables: Sequence[Table], store: Store) -> list[Planned]:
    """Return every run of the tables with its status and the other tables that want the same training."""
    wanted_by: dict[str, list[str]] = {}
    for table in tables:
        for run in table.runs:
            names = wanted_by.setdefault(run.train_id, [])
            if table.name not in names:
                names.append(table.name)
    return [
        Planned(
            table,
            run,
            store.status(run.train_id, run.eval_id),
            tuple(name for name in wanted_by[run.train_id] if name != table.name),
        )
        for table in tables
        for run in table.runs
    ]


def summary(planned: Sequence[Planned]) -> str:
    """Return a table's plan in one sentence."""
    table, trainings = planned[0].table, {p.run.train_id: p.run for p in planned}
    models = " and ".join(sorted({cell.settings.model for cell in table.cells}))
    steps = " and ".join(f"{n:,}" for n in sorted({p.run.evaluation.step for p in planned}))
    batches = " and ".join(str(n) for n in sorted({run.train.batch for run in trainings.values()}))
    here = f"; {table.stand_ins}" if table.stand_ins else ""
    return (
        f"{table.name_in_words} at {table.scale.scale}: {len(table.cells)} cells × {len(table.seeds)} seed(s) = "
        f"{len(planned)} runs of {models}, {steps} steps of {batches}; {len(trainings)} trainings{here}"
    )


@dataclass(frozen=True)
class Training:
    """One training, however many cells and tables want it: its longest length, and how often it is measured."""

    train_id: str
    model: str
    words: str
    seed: int
    steps: int
    measurements: int
    tables: tuple[str, ...]


def trainings(tables: Sequence[Table]) -> list[Training]:
    """Return each distinct training once, in the words of the first table that wants it, in the order of the report."""
    uses: dict[str, list[tuple[Table, Cell, Run]]] = {}
    for table in sorted(tables, key=_place):
        for cell in table.cells:
            for run in cell.runs:
                uses.setdefault(run.train_id, []).append((table, cell, run))
    changing = {table.name: {axis for axis in table.file.axes if _changes_training(table, axis)} for table in tables}
    return [_training(found, changing) for found in uses.values()]


def _training(uses: Sequence[tuple[Table, Cell, Run]], changing: Mapping[str, set[str]]) -> Training:
    table, _, run = uses[0]
    longest = max((cell for other, cell, _ in uses if other is table), key=lambda cell: cell.settings.epochs)
    return Training(
        train_id=run.train_id,
        model=", ".join(dict.fromkeys(cell.settings.model for _, cell, _ in uses)),
        words="; ".join(f"{axis}: {label}" for axis, label in longest.at if axis in changing[table.name]),
        seed=run.seed,
        steps=max(run.evaluation.step for _, _, run in uses),
        measurements=len({run.eval_id for _, _, run in uses}),
        tables=tuple(dict.fromkeys(table.name for table, _, _ in uses)),
    )


def _changes_training(table: Table, axis: str) -> bool:
    """Tell whether an axis says anything beside how long is trained and how is measured."""
    keys = {key.partition(".")[0] for settings in table.file.axes[axis].values() for key in settings}
    return bool(keys - {"epochs", "sampler", "evaluation", "resources"})


def study_tables(store: Store) -> list[Table]:
    """Expand a study's grids again, in the order of the report.

    Raises:
        UserError: there is no such study, or one of its grid files is not here.
    """
    tables = []
    for grid in store.grids():
        if not Path(grid["grid"]).is_file():
            raise UserError(f"{store.root}: its grid {grid['grid']} is not here; stand in the project's folder")
        tables.append(load_table(Path(grid["grid"]), grid["scale"], grid["set"]))
    return sorted(tables, key=_place)


def _place(table: Table) -> tuple[int, str, str]:
    """Sort key: tables of the paper by their number, then its figures, then tables of our own."""
    said = table.file.table
    return (0 if said[:1].isdigit() else 1 if said.startswith("figure ") else 2, said.zfill(16), table.name)
