"""The one way to print. Whatever a text holds (names of files, messages of libraries, logs, labels of a grid), the
terminal shows it: nothing in it is markup, and nothing in it is a command to the terminal."""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Columns
from rich.text import Text

from harness.plain_text import escape_controls

LINES = "\n\t"  # of a text that has several
TEMPLATES = Path(__file__).parent / "templates"
MANY = 200  # rows: more than a screen holds
# Columns of the terminal.
IN_A_FILE = 150
NARROWEST = 12
# Of a cell, below which its words cannot be read; an identity is never broken.
IDENTITIES, IDENTITY, WORDS = ("training", "measurement"), 12, 4
GAP = 2
ENOUGH = 48  # of a column that may be cropped, before others are dropped for it


def say(text: str | Path, err: bool = False, nl: bool = True) -> None:
    """Print a text as it is, on the standard output or `err`, with a line feed or not."""
    click.echo(escape_controls(str(text), LINES), err=err, nl=nl)


class Screen(Console):
    """Rich's terminal, to which a string is a text and never markup."""

    def render_str(self, text: str, **style: Any) -> Text:
        """Return what stands for a string: rich asks this for each cell, title and word."""
        return super().render_str(
            escape_controls(text, LINES), **style | {"markup": False, "emoji": False, "highlight": False}
        )

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
        finalize=lambda value: escape_controls(str(value)) if isinstance(value, Path) else value,
    )  # fmt: skip
    return environment.get_template(f"{template}.txt.j2").render(values)


class TextTable:
    """Rows, each a mapping from headings to words, as a table without lines.

    Of many rows it is a table without what takes a second for a thousand of them: cells that are broken to fit the
    terminal, and colours. Where the terminal is too narrow for a table, it is a list of "heading: words".
    """

    def __init__(self, title: str, rows: Sequence[Mapping[str, str | Text]]) -> None:
        self.title = escape_controls(title, LINES)
        self.rows = [{escape_controls(heading): _cell(cell) for heading, cell in row.items()} for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what rich is to print."""
        if len(self.rows) > MANY:
            yield self._plain()
            return
        needed = sum((IDENTITY if heading in IDENTITIES else WORDS) + GAP for heading in self.headings) - GAP
        yield self._columns() if needed <= options.max_width else self.listed()

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

    def listed(self) -> Text:
        """Return each row as lines of "heading: words"."""
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


@dataclass(frozen=True)
class Listing:
    """Rows of one line each, as mappings from headings to words.

    cropped: columns of which a narrow terminal shows the beginnings, each with the least width that can be read.
    dropped: columns that it goes without before words are cropped, the first of them first; and any that is empty.
    """

    title: str
    rows: Sequence[Mapping[str, str | Text]]
    cropped: Mapping[str, int]
    dropped: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield what rich is to print."""
        widths = self.widths(options.max_width)
        if sum(widths.values()) + GAP * (len(widths) - 1) > options.max_width:
            yield TextTable(self.title, self.rows).listed()
            return
        yield Text(escape_controls(self.title, LINES), "bold")
        screen = Text("", no_wrap=True, overflow="ignore")
        for row in ({name: Text(name, "bold") for name in widths}, *self.rows):
            for name, width in widths.items():
                cell = _cell(row[name])
                screen.append(fitted(cell.plain, width), cell.style).append(" " * GAP)
            screen.rstrip()
            screen.append("\n")
        yield screen

    def widths(self, room: int) -> dict[str, int]:
        """Return the columns that are shown, and their widths in `room`."""
        names = [name for name in (self.rows[0] if self.rows else {}) if any(str(row[name]) for row in self.rows)]
        needed = {n: max(cell_len(n), *(cell_len(escape_controls(str(row[n]))) for row in self.rows)) for n in names}
        enough = {name: min(width, ENOUGH) if name in self.cropped else width for name, width in needed.items()}
        for name in self.dropped:
            if sum(enough.values()) + GAP * (len(enough) - 1) > room:
                enough.pop(name, None)
        least = {name: min(width, self.cropped.get(name, width)) for name, width in enough.items()}
        left = room - sum(least.values()) - GAP * (len(least) - 1)
        flexible = sorted(least.keys() & self.cropped, key=lambda name: needed[name] - least[name])
        for place, name in enumerate(flexible):
            more = max(0, min(needed[name] - least[name], left // (len(flexible) - place)))
            least[name], left = least[name] + more, left - more
        return least


def show(*listings: Listing) -> None:
    """Print listings of the same columns: each in columns that fit the terminal, or, where the output goes into a file,
    all as one with tabs between the columns. There a line that begins with # is no row, and no column is left out."""
    screen, rows = console(), [row for listing in listings for row in listing.rows]
    if screen.is_terminal:
        screen.print(*listings, sep="\n")
        return
    lines = [[f"# {listing.title}"] for listing in listings] + ([list(rows[0])] if rows else [])
    for line in (*lines, *(row.values() for row in rows)):  # by no printer that would put blanks in the place of tabs
        print(*(escape_controls(str(cell)) for cell in line), sep="\t", file=screen.file)
    screen.file.flush()


def show_note(words: str, whole: bool = False) -> None:
    """Print a line that is no row of a listing; whole: not broken to fit the terminal, so that it can be copied."""
    screen = console()
    if screen.is_terminal:
        screen.print(words, soft_wrap=whole)
    else:
        print("#", escape_controls(words), file=screen.file, flush=True)


def fitted(words: str, width: int) -> str:
    """Return words in so many columns of the terminal; an ellipsis stands for what has no room."""
    return set_cell_size(words, width) if cell_len(words) <= width else f"{set_cell_size(words, width - 1)}…"


def _cell(words: str | Text) -> Text:
    return words if isinstance(words, Text) else Text(escape_controls(words))
