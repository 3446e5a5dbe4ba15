"""Arguments and options that several commands have."""

import math
import os
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from harness.store.store import Store

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class FiniteRange(click.FloatRange):
    """A number within limits; click lets NaN pass every limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or refuse the word as click does."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


HOURS = FiniteRange(min=0)


def _folder(name: str, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    variable = f"HARNESS_{name.upper()}"
    return click.option(f"--{name}", type=FOLDER, default=name, envvar=variable, help=words)


results = _folder("results", "Folder of what is measured: small, and can be committed.")
scratch = _folder("scratch", "Folder for checkpoints and caches: large, and not committed.")
data = _folder("data", "Folder of the data sets.")
reports = _folder("reports", "Folder of the reports: small, and can be committed.")
profile = click.option("--profile", envvar="HARNESS_PROFILE",
                       help="Name of a file in clusters/; without it, SLURM with its own defaults.")  # fmt: skip
gpu_hours = click.option("--max-gpu-hours", "limit", type=HOURS, help="Refuse what needs more than this.")


def study(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument STUDY and the options of its folders, and pass them to it as one Store."""

    @wraps(command)
    def with_store(study: str, results: Path, scratch: Path, **arguments: Any) -> None:
        command(store=Store(results, scratch, study), **arguments)

    return click.argument("study")(results(scratch(with_store)))


def words_for(store: Store) -> str:
    """Return a study as a command is told of it: its name, and its folders where a command would not find them."""
    words = [store.study]
    for name, folder in {"results": store.results, "scratch": store.scratch}.items():
        if folder.absolute() != Path(os.environ.get(f"HARNESS_{name.upper()}", name)).absolute():
            words += [f"--{name}", str(folder)]
    return shlex.join(words)
