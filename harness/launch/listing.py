"""Plans on the terminal."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as Grid

from harness.keys import Key
from harness.launch.plan import Planned, Training, summary

RUN_HEADINGS = ("cell", "seed", "model", "steps", "training", "measurement", "why", "shared with")
TRAINING_HEADINGS = ("training", "model", "seed", "steps", "measured", "in the words of its first table", "tables")


def print_plan(planned: Sequence[Planned]) -> None:
    """Print every run, table by table, and how many there are in each state."""
    console = _console()
    for name in dict.fromkeys(p.table.name for p in planned):
        mine = [p for p in planned if p.table.name == name]
        console.print(_grid(summary(mine), RUN_HEADINGS, [_run_row(p) for p in mine]), "")
    states = Counter(p.status.state for p in planned)
    console.print(", ".join(f"{count} {state}" for state, count in states.items()))


def print_keys(keys: Mapping[str, Sequence[Key]]) -> None:
    """Print the keys of files under the title of each kind of file."""
    for title, rows in keys.items():
        cells = [(key.name, key.legal, key.default or "needed", key.meaning) for key in rows]
        _console().print(_grid(title, ("key", "legal", "default", "meaning"), cells), "")


def print_trainings(trainings: Sequence[Training]) -> None:
    """Print each distinct training once, with the tables that share it."""
    rows = [_training_row(training) for training in trainings]
    _console().print("", _grid(f"{len(trainings)} distinct trainings", TRAINING_HEADINGS, rows))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def _grid(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    grid = Grid(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, no_wrap=heading in ("training", "measurement"))
    for row in rows:
        grid.add_row(*row)
    return grid


def _run_row(p: Planned) -> list[str]:
    cell = next(c for c in p.table.cells if c.at == p.run.at)
    return [
        " · ".join(label for _, label in p.run.at), str(p.run.seed), cell.settings.model,
        f"{p.run.evaluation.step:,}", p.run.train_id, p.run.eval_id, p.why, ", ".join(p.shared_with),
    ]  # fmt: skip


def _training_row(t: Training) -> list[str]:
    measured = f"{t.measurements} ×"
    return [t.train_id, t.model, str(t.seed), f"{t.steps:,}", measured, t.words, ", ".join(t.tables)]
