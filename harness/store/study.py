"""The tables of a study and the trainings that they share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.config.grid import Cell, Run, Table, load_table
from harness.config.grid_file import MOST_CELLS
from harness.config.named_files import recorded_grid
from harness.config.plugin_parts import PluginRecord
from harness.config.yaml_document import Layer
from harness.errors import UserError
from harness.files import is_file
from harness.store.records import GridRecord
from harness.store.store import Store, each_or_told


def study_tables(store: Store, overrides: Sequence[str] = (), layer: Layer | None = None) -> list[Table]:
    """Expand a study's grids again, in the order of the report; overrides and layer: as in `load_table`.

    A grid that is not here, cannot be read or is one too many is told, and left out while another can be.

    Raises:
        UserError: there is no such study, none of its grids can be read, or the overrides are wrong.
    """

    cells = 0

    def by_itself(record: GridRecord) -> tuple[GridRecord, Table]:
        nonlocal cells
        grid = recorded_grid(record.grid)
        if not is_file(grid):
            raise UserError(f"{store.root}: its grid {record.grid} is not here; stand in the project's folder")
        table = expanded(record)
        if cells + len(table.cells) > MOST_CELLS:  # one grid may have so many, and many grids would fill the memory
            raise UserError(
                f"{record.grid}: with it the study has more than {MOST_CELLS:,} cells; make it another study"
            )
        cells += len(table.cells)
        return record, table

    tables = each_or_told(by_itself, store.grids())
    if overrides or layer:  # a mistake of these stops all
        tables = [(record, expanded(record, overrides, layer)) for record, _ in tables]
    return sorted((table for _, table in tables), key=_place)


def expanded(record: GridRecord, overrides: Sequence[str] = (), layer: Layer | None = None) -> Table:
    """Expand a grid of a study again, of the plug-ins that it was run with: none is loaded.

    Raises:
        UserError: as `load_table`.
    """
    plugins = record.plugins or PluginRecord()
    return load_table(recorded_grid(record.grid), record.scale, [*record.overrides, *overrides], layer, plugins)


def _place(table: Table) -> tuple[bool, bool, str, str]:
    """Sort key: tables of the paper by their number, then its figures, then tables of our own."""
    title = table.file.table
    return not table.is_paper, not title[:1].isdigit(), title.zfill(16), table.name


def runs_by_training(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Gather runs by their training, each measurement once, in their order."""
    by_training: dict[str, dict[str, Run]] = {}
    for run in runs:
        by_training.setdefault(run.train_id, {}).setdefault(run.eval_id, run)
    return {train_id: list(by_measurement.values()) for train_id, by_measurement in by_training.items()}


@dataclass(frozen=True)
class Training:
    """One training, however many cells and tables want it: its longest length, and how often it is measured.

    words: its cell's "axis: label; axis: label" in the first table that wants it; labels: without the axes.
    """

    train_id: str
    model: str
    words: str
    labels: str
    seed: int
    tables: tuple[str, ...]
    steps: int
    measurements: int


def trainings(tables: Sequence[Table]) -> list[Training]:
    """Return each distinct training once, in the words of the first table that wants it, in the order of the report."""
    uses: dict[str, list[tuple[Table, Cell, Run]]] = {}
    for table in sorted(tables, key=_place):
        for cell in table.cells:
            for run in cell.runs:
                uses.setdefault(run.train_id, []).append((table, cell, run))
    changing = {table.name: {axis for axis in table.file.axes if _changes_training(table, axis)} for table in tables}
    return [_training(same, changing) for same in uses.values()]


def _training(uses: Sequence[tuple[Table, Cell, Run]], changing: Mapping[str, set[str]]) -> Training:
    table, _, run = uses[0]
    longest = max((cell for other, cell, _ in uses if other is table), key=lambda cell: cell.settings.epochs)
    return Training(
        train_id=run.train_id,
        model=", ".join(dict.fromkeys(cell.settings.model for _, cell, _ in uses)),
        words="; ".join(f"{axis}: {label}" for axis, label in longest.at if axis in changing[table.name]),
        labels=" · ".join(label for axis, label in longest.at if axis in changing[table.name]),
        seed=run.seed,
        tables=tuple(dict.fromkeys(table.name for table, _, _ in uses)),
        steps=max(run.evaluation.step for _, _, run in uses),
        measurements=len({run.eval_id for _, _, run in uses}),
    )


def _changes_training(table: Table, axis: str) -> bool:
    """Tell whether an axis says anything beside how long is trained and how is measured."""
    keys = {key.partition(".")[0] for settings in table.file.axes[axis].values() for key in settings}
    return bool(keys - {"epochs", "sampler", "evaluation", "resources"})
