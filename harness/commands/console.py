"""Plans on the terminal."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.config.key_reference import Key
from harness.planning.plan import Planned, summary
from harness.store.study import Training

MANY = 200  # rows: more than a screen holds
RUN_HEADINGS = ("cell", "seed", "model", "steps", "training", "measurement", "why", "shared with")
TRAINING_HEADINGS = ("training", "model", "seed", "steps", "measured", "in the words of its first table", "tables")


def print_plan(planned: Sequence[Planned]) -> None:
    """Print every run, table by table, and how many there are in each state."""
    screen = console()
    for name in dict.fromkeys(p.table.name for p in planned):
        mine = [p for p in planned if p.table.name == name]
        screen.print(grid(summary(mine), RUN_HEADINGS, [_run_row(p) for p in mine]), "")
    states = Counter(p.status.state for p in planned)
    screen.print(", ".join(f"{count} {state}" for state, count in states.items()))


def print_keys(keys: Mapping[str, Sequence[Key]]) -> None:
    """Print the keys of files under the title of each kind of file."""
    for title, rows in keys.items():
        cells = [(key.name, key.legal, key.default or "needed", key.meaning) for key in rows]
        console().print(grid(title, ("key", "legal", "default", "meaning"), cells), "")


def print_trainings(trainings: Sequence[Training]) -> None:
    """Print each distinct training once, with the tables that share it."""
    rows = [_training_row(training) for training in trainings]
    console().print("", grid(f"{len(trainings)} distinct trainings", TRAINING_HEADINGS, rows))


def console() -> Console:
    """Return the terminal, or 150 columns where the output goes into a file."""
    return Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def grid(title: str, headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Grid | Text:
    """Return a table of words without lines; of many rows, without what takes a second for a thousand of them: cells
    that are broken to fit the terminal, and colours."""
    if len(rows) > MANY:
        return _plain_columns(title, [headings, *([str(cell) for cell in row] for row in rows)])
    grid = Grid(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, no_wrap=heading in ("training", "measurement"))
    for row in rows:
        grid.add_row(*row)
    return grid


def _plain_columns(title: str, lines: Sequence[Sequence[str]]) -> Text:
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(set_cell_size, line, widths)).rstrip() for line in lines)
    return Text("\n".join([title, *padded]), no_wrap=True, overflow="ignore")


def _run_row(p: Planned) -> list[str]:
    cell = p.table.cell(p.run.at)
    return [
        " · ".join(label for _, label in p.run.at), str(p.run.seed), cell.settings.model if cell else "",
        f"{p.run.evaluation.step:,}", p.run.train_id, p.run.eval_id, p.why, ", ".join(p.shared_with),
    ]  # fmt: skip


def _training_row(t: Training) -> list[str]:
    measured = f"{t.measurements} ×"
    return [t.train_id, t.model, str(t.seed), f"{t.steps:,}", measured, t.words, ", ".join(t.tables)]
