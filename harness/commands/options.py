"""Arguments and options that several commands have."""

import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from harness.config.grid import Cell, Table
from harness.config.named_files import PROFILES, named_file
from harness.errors import UserError, nearest, user_error
from harness.files import check_output, nearest_existing, place, share_with_group
from harness.plugins import load_file
from harness.store.store import Store


class Place(click.ParamType):
    """A name of a file or folder: what can be known of it is checked before a command does anything.

    kind: "any" file or folder to be read, whose reader says what may be meant where it is missing; "existing", one that
    is there; "plain", a file that is there; "folder", which need not be there yet; "output", a file to be written;
    "new", what is to be written and must not be there yet.
    """

    name = "path"

    def __init__(self, kind: Literal["any", "existing", "plain", "folder", "output", "new"]) -> None:
        self.kind = kind

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            UserError: nothing can be read or written there; which option or variable says so, and why.
        """
        flag = _flag(param, ctx)
        path = place(value, flag)
        with user_error(f"{flag} {path}", kinds=OSError):
            self._check(path, flag)
        return path

    def _check(self, path: Path, flag: str) -> None:
        there = path.exists()  # raises where a name is too long, or links lead in a circle
        if self.kind in ("existing", "plain") and not there:
            raise UserError(f"{flag} {path}: no such file{' or folder' if self.kind == 'existing' else ''}")
        if self.kind == "plain" and path.is_dir():
            raise UserError(f"{flag} {path}: is a folder; the name of a file in it is expected")
        if self.kind in ("any", "existing", "plain") and there and not (path.is_file() or path.is_dir()):
            expected = "a file" if self.kind == "plain" else "a file or a folder"
            raise UserError(f"{flag} {path}: is a device or a pipe; {expected} is expected")
        if self.kind == "folder" and there and not path.is_dir():
            raise UserError(f"{flag} {path}: is a file; a folder is expected")
        if self.kind == "folder" and not there and path.is_symlink():
            raise UserError(f"{flag} {path}: is a link that leads nowhere; a folder is expected")
        if self.kind == "folder" and not nearest_existing(path).is_dir():
            raise UserError(f"{flag} {path}: {nearest_existing(path)} is a file; a folder is expected")
        if self.kind == "new" and (there or path.is_symlink()):
            raise UserError(f"{flag} {path}: exists already; choose another name")
        if self.kind in ("output", "new"):
            check_output(flag, path)


class ReferenceWords(click.ParamType):
    """What samples are measured against: a place, or DATA_SET:SPLIT, as a text."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, and where it is a place, that of the path."""
        return value if ":" in value and not Path(value).exists() else str(FILE.convert(value, param, ctx))


class ProfileName(click.ParamType):
    """The name of a cluster's profile, looked for at once, so that the option or variable that says it is told."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            UserError: it is no name, or there is no such file.
        """
        flag = _flag(param, ctx)
        named_file(PROFILES, value, flag, f"{flag} {value}: no file {PROFILES / value}.yaml")
        return value


def check_suffix(flag: str, path: Path | None, suffix: str) -> None:
    """Refuse the name of a file to be written that promises another format.

    Raises:
        UserError: naming the option and the suffix.
    """
    if path and path.suffix.lower() != suffix:
        raise UserError(f"{flag} {path}: a name that ends in {suffix} is expected, for that is what is written")


def check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse outputs that would overwrite each other or what is read, each by its option.

    Raises:
        UserError: naming both options.
    """
    taken = {path.resolve(): flag for flag, path in inputs.items() if path}
    for flag, path in outputs.items():
        other = taken.setdefault(path.resolve(), flag) if path else flag
        if other != flag:
            raise UserError(f"{flag} {path}: {other} names the same file; choose another name")


def _flag(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """Return what a person would look for: the option, the argument, or the variable in its stead."""
    if param is None:
        return "a path"
    if ctx and param.envvar and ctx.get_parameter_source(str(param.name)) is ParameterSource.ENVIRONMENT:
        return str(param.envvar)
    return param.opts[0] if isinstance(param, click.Option) else str(param.name).upper()


class FiniteRange(click.FloatRange):
    """A number within limits; click lets NaN pass every limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or refuse the word as click does."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


FILE, EXISTING, PLAIN, FOLDER = Place("any"), Place("existing"), Place("plain"), Place("folder")
OUTPUT, NEW = Place("output"), Place("new")
HOURS = FiniteRange(min=0)


def _folder(name: str, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    variable = f"HARNESS_{name.upper()}"
    return click.option(f"--{name}", type=FOLDER, default=name, envvar=variable, show_envvar=True, help=words)


results = _folder("results", "Folder of what is measured: small, and can be committed.")
scratch = _folder("scratch", "Folder for checkpoints and caches: large, and not committed.")
data = _folder("data", "Folder of the data sets.")
reports = _folder("reports", "Folder of the reports: small, and can be committed.")
profile = click.option("--profile", type=ProfileName(), envvar="HARNESS_PROFILE", show_envvar=True,
                       help="A cluster's profile: the name of a file in clusters/, or one of the package's; without "
                            "it, SLURM with its own defaults.")  # fmt: skip


def _load_plugins(ctx: click.Context, param: click.Parameter, paths: Sequence[str]) -> None:
    for path in paths:
        load_file(place(path, "--plugin"), "--plugin")


plugin = click.option("--plugin", multiple=True, metavar="FILE", callback=_load_plugins, expose_value=False,
                      is_eager=True,
                      help="A Python file to execute, with terms, a launcher … of your own. Repeatable.")  # fmt: skip
gpu_hours = click.option("--max-gpu-hours", "limit", type=HOURS, help="Refuse what needs more than this.")


def study(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument STUDY and the options of its folders, and pass them to it as one Store."""

    @wraps(command)
    def with_store(study: str, results: Path, scratch: Path, **arguments: Any) -> None:
        share_with_group(results, scratch)
        command(store=Store(results, scratch, study), **arguments)

    return click.argument("study")(results(scratch(with_store)))


@dataclass(frozen=True)
class Filter:
    """Which rows a person wants to see. names: of tables, or their numbers; arm: a part of a label, in any case."""

    names: tuple[str, ...]
    arm: str | None
    failed: bool

    def of(self, tables: Sequence[Table]) -> list[Table]:
        """Return the tables that are wanted, with the cells that are.

        Raises:
            UserError: there is no such table, or no such label.
        """
        legal = {word: table.name for table in tables for word in (table.name, table.file.table)}
        for name in self.names:
            if name not in legal:
                raise UserError(f"--table {name}: no such table{nearest(name, legal)}")
        wanted = {legal[name] for name in self.names} or set(legal.values())
        tables = [replace(t, cells=tuple(filter(self._has_arm, t.cells))) for t in tables if t.name in wanted]
        if not any(table.cells for table in tables):
            raise UserError(f"--arm {self.arm}: no label of a row holds these words")
        return [table for table in tables if table.cells]

    def _has_arm(self, cell: Cell) -> bool:
        return self.arm is None or any(self.arm.casefold() in label.casefold() for _, label in cell.at)


@dataclass(frozen=True)
class RowChoice:
    """The part of some tables that a command is to take. words: AXIS=LABEL; a cell has one of the labels that are said
    of each axis that is said."""

    words: tuple[str, ...]

    def of(self, tables: Sequence[Table]) -> list[Table]:
        """Return the tables that have such cells, with these and the baselines of these; without words, all.

        Raises:
            UserError: there is no such axis or label, or no cell that has them together; what is legal.
        """
        wanted = self._wanted(tables)
        chosen = [replace(table, cells=_with_baselines(table, wanted)) for table in tables]
        if not any(table.cells for table in chosen):
            raise UserError(f"{' '.join(f'--rows {word}' for word in self.words)}: no row has these labels together")
        return [table for table in chosen if table.cells]

    def _wanted(self, tables: Sequence[Table]) -> dict[str, set[str]]:
        legal: dict[str, dict[str, None]] = {}
        for axis, label in (labelled for table in tables for cell in table.cells for labelled in cell.at):
            legal.setdefault(axis, {})[label] = None
        wanted: dict[str, set[str]] = {}
        for word in self.words:
            axis, equals, label = (part.strip() for part in word.partition("="))
            if not equals:
                raise UserError(f"--rows {word}: AXIS=LABEL is expected; axes: {', '.join(legal)}")
            if axis not in legal:
                raise UserError(f"--rows {word}: no axis '{axis}'{nearest(axis, legal)}")
            if label not in legal[axis]:
                raise UserError(f"--rows {word}: axis '{axis}' has no label '{label}'{nearest(label, legal[axis])}")
            wanted.setdefault(axis, set()).add(label)
        return wanted


def _with_baselines(table: Table, wanted: Mapping[str, set[str]]) -> tuple[Cell, ...]:
    """Return the cells with the wanted labels, and those that their change is taken against, in the table's order."""
    chosen = [c for c in table.cells if all(c.label(axis) in labels for axis, labels in wanted.items())]
    kept = {cell.at for cell in chosen} | {other.at for cell in chosen if (other := table.baseline(cell))}
    return tuple(cell for cell in table.cells if cell.at in kept)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose rows, and pass them to it as one Filter."""

    @wraps(command)
    def with_filter(*positional: Any, names: tuple[str, ...], arm: str | None, failed: bool, **arguments: Any) -> None:
        command(*positional, only=Filter(names, arm, failed), **arguments)

    for option in reversed((
        click.option("--table", "names", multiple=True, metavar="NAME",
                     help="Only this table: table2, or 2. Repeatable."),
        click.option("--arm", metavar="WORDS", help="Only rows of which a label holds these words."),
        click.option("--failed", is_flag=True, help="Only what failed."),
    )):  # fmt: skip
        with_filter = option(with_filter)
    return with_filter


def words_for(store: Store) -> str:
    """Return a study as a command is told of it: its name, and its folders where a command would not find them."""
    words = [store.study]
    for name, folder in {"results": store.results, "scratch": store.scratch}.items():
        variable = f"HARNESS_{name.upper()}"
        if folder.absolute() != place(os.environ.get(variable) or name, variable).absolute():
            words += [f"--{name}", str(folder)]
    return shlex.join(words)
