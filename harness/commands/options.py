"""Options that several commands have."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.store.store import Store

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
HOURS = click.FloatRange(min=0)
results_option = click.option("--results", type=FOLDER, default="results", show_default=True, envvar="HARNESS_RESULTS",
                              help="Folder of what is measured: small, and can be committed.")  # fmt: skip
scratch_option = click.option("--scratch", type=FOLDER, default="scratch", show_default=True, envvar="HARNESS_SCRATCH",
                              help="Folder for checkpoints and caches: large, and not committed.")  # fmt: skip
data_option = click.option("--data", type=FOLDER, default="data", show_default=True, envvar="HARNESS_DATA",
                           help="Folder of the data sets.")  # fmt: skip
reports_option = click.option("--reports", type=FOLDER, default="reports", show_default=True, envvar="HARNESS_REPORTS",
                              help="Folder of the reports: small, and can be committed.")  # fmt: skip
profile_option = click.option("--profile", envvar="HARNESS_PROFILE",
                              help="Name of a file in clusters/; without it, SLURM with its own defaults.")  # fmt: skip
limit_option = click.option("--max-gpu-hours", "limit", type=HOURS, help="Refuse what needs more than this.")


def study_options(store: "Store") -> str:
    """Return a study as a command is told of it: its name, and its folders where a command would not find them."""
    words = [store.study]
    for name, folder in {"results": store.results, "scratch": store.scratch}.items():
        if folder.absolute() != Path(os.environ.get(f"HARNESS_{name.upper()}", name)).absolute():
            words += [f"--{name}", str(folder)]
    return shlex.join(words)
