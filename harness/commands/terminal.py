"""The one way to print. Whatever a text holds (names of files, messages of libraries, logs, labels of a grid), the
terminal shows it: nothing in it is markup, and nothing in it is a command to the terminal."""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Columns
from rich.text import Text

from harness.plain_text import printable

TEMPLATES = Path(__file__).parent / "templates"
MANY = 200  # rows: more than a screen holds
# Columns of the terminal.
IN_A_FILE = 150
NARROWEST = 12
# Of a cell, below which its words cannot be read; an identity is never broken.
IDENTITIES, IDENTITY, WORDS = ("training", "measurement"), 12, 4
GAP = 2


def say(text: str | Path, err: bool = False, nl: bool = True) -> None:
    """Print a text as it is, on the standard output or `err`, with a line feed or not."""
    click.echo(printable(str(text)), err=err, nl=nl)


class Screen(Console):
    """Rich's terminal, to which a string is a text and never markup."""

    def render_str(self, text: str, **style: Any) -> Text:
        """Return what stands for a string: rich asks this for each cell, title and word."""
        return super().render_str(printable(text), **style | {"markup": False, "emoji": False, "highlight": False})

    def on_broken_pipe(self) -> None:
        """Leave a reader who has gone to the command line, as `click.echo` does."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console(**settings: Any) -> Screen:
    """Return the terminal, or 150 columns where the output goes into a file; fewer where COLUMNS says so."""
    wide = os.environ.get("COLUMNS", "")
    in_a_file = min(IN_A_FILE, max(NARROWEST, int(wide))) if wide.isdecimal() else IN_A_FILE
    terminal = sys.stdout is not None and sys.stdout.isatty()
    screen = Screen(width=None if terminal else in_a_file, highlight=False, **settings)
    if screen.width < NARROWEST:
        screen.width = NARROWEST
    return screen


def words_of(template: str, **values: Any) -> str:
    """Fill a template of `templates/`, with words as they are: none of these is HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
        finalize=lambda value: printable(str(value), keep="") if isinstance(value, Path) else value,
    )  # fmt: skip
    return environment.get_template(f"{template}.txt.j2").render(values)


class TextTable:
    """Rows, each a mapping from headings to words, as a table without lines.

    Of many rows it is a table without what takes a second for a thousand of them: cells that are broken to fit the
    terminal, and colours. Where the terminal is too narrow for a table, it is a list of "heading: words".
    """

    def __init__(self, title: str, rows: Sequence[Mapping[str, str | Text]]) -> None:
        self.title = printable(title)
        self.rows = [{printable(heading): _cell(cell) for heading, cell in row.items()} for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what rich is to print."""
        if len(self.rows) > MANY:
            yield self._plain()
            return
        needed = sum((IDENTITY if heading in IDENTITIES else WORDS) + GAP for heading in self.headings) - GAP
        yield self._columns() if needed <= options.max_width else self._listed()

    @property
    def headings(self) -> list[str]:
        """The headings of all rows."""
        return list(self.rows[0]) if self.rows else []

    def _columns(self) -> Columns:
        columns = Columns(title=self.title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for heading in self.headings:
            columns.add_column(heading, no_wrap=heading in IDENTITIES)
        for row in self.rows:
            columns.add_row(*row.values())
        return columns

    def _listed(self) -> Text:
        lines = [Text(self.title)] if self.title else []
        for row in self.rows:
            lines += [
                Text(""),
                *(Text.assemble(heading and f"{heading}: ", cell) for heading, cell in row.items() if cell),
            ]
        return Text("\n", overflow="fold").join(lines)

    def _plain(self) -> Text:
        lines = [self.headings, *([str(cell) for cell in row.values()] for row in self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(map(set_cell_size, line, widths)).rstrip() for line in lines)
        return Text("\n".join([self.title, *padded]), no_wrap=True, overflow="ignore")


def _cell(words: str | Text) -> Text:
    return words if isinstance(words, Text) else Text(printable(words, keep=""))
