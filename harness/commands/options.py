"""Options that several commands have."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.store.store import Store

FOLDER = click.Path(path_type=Path, file_okay=False)
results_option = click.option("--results", type=FOLDER, default="results", show_default=True, envvar="HARNESS_RESULTS",
                              help="Folder of what is measured: small, and can be committed.")  # fmt: skip
scratch_option = click.option("--scratch", type=FOLDER, default="scratch", show_default=True, envvar="HARNESS_SCRATCH",
                              help="Folder for checkpoints and caches: large, and not committed.")  # fmt: skip
data_option = click.option("--data", type=FOLDER, default="data", show_default=True, envvar="HARNESS_DATA",
                           help="Folder of the data sets.")  # fmt: skip
reports_option = click.option("--reports", type=FOLDER, default="reports", show_default=True, envvar="HARNESS_REPORTS",
                              help="Folder of the reports: small, and can be committed.")  # fmt: skip


def words_of(store: "Store") -> str:
    """Return a study as a command is told of it: its name, and its folders where a command would not find them."""
    folders = {"results": store.results, "scratch": store.scratch}
    words = [store.study]
    for name, folder in folders.items():
        if folder.absolute() != Path(os.environ.get(f"HARNESS_{name.upper()}", name)).absolute():
            words += [f"--{name}", str(folder)]
    return shlex.join(words)
