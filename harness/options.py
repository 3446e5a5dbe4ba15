"""Options that several commands have."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
results_option = click.option("--results", type=FOLDER, default="results", show_default=True, envvar="HARNESS_RESULTS",
                              help="Folder of what is measured: small, and can be committed.")  # fmt: skip
scratch_option = click.option("--scratch", type=FOLDER, default="scratch", show_default=True, envvar="HARNESS_SCRATCH",
                              help="Folder for checkpoints and caches: large, and not committed.")  # fmt: skip
data_option = click.option("--data", type=FOLDER, default="data", show_default=True, envvar="HARNESS_DATA",
                           help="Folder of the data sets.")  # fmt: skip
reports_option = click.option("--reports", type=FOLDER, default="reports", show_default=True, envvar="HARNESS_REPORTS",
                              help="Folder of the reports: small, and can be committed.")  # fmt: skip
