"""The command line: its commands, and which mistake is whose. The module of a command is imported when it is called, so
that help answers at once."""

import errno
import importlib
import sys

import click

from harness.errors import UserError

# Command → its module in `harness.commands`, and the first words of its help.
COMMANDS = {
    "bundle": ("report", "Pack STUDY into one archive: grids, results, thumbnails and the report."),
    "cancel": ("status_retry_cancel", "End STUDY's jobs in SLURM, after a question; they do not rise again."),
    "collect": ("report", "Write STUDY's results as one tidy CSV (and Parquet where pyarrow is installed)."),
    "data": ("data_encode", "Get and check data sets."),
    "doctor": ("doctor", "Examine a SLURM cluster before the first job."),
    "encode": ("data_encode", "Pack the latents of the photos in SOURCE, and of their mirror images."),
    "keys": ("key_listing", "List the keys of grid files, scale files and settings that begin with START."),
    "logs": ("status_retry_cancel", "Print the end of what the job of RUN wrote, or STUDY's failures."),
    "measure": ("measure_probe", "Measure SAMPLES against a reference."),
    "measure-study": ("measure_probe", "Add to STUDY's measurements the metrics that they lack."),
    "plan": ("plan_run_submit", "List every run of GRIDS, and what they cost."),
    "probe": ("measure_probe", "Measure the representations of STUDY's networks."),
    "report": ("report", "Write STUDY's report: the paper's tables with our numbers beside the paper's."),
    "retry": ("status_retry_cancel", "Send the failed trainings of STUDY to SLURM again."),
    "run": ("plan_run_submit", "Run GRIDS on this machine; what is done already is not done again."),
    "show": ("status_retry_cancel", "Print what is known of a training."),
    "status": ("status_retry_cancel", "Say how each training of STUDY stands."),
    "submit": ("plan_run_submit", "Send GRIDS to a cluster's queue, one array for each set of equal resources."),
    "weights": ("weights", "Import and export published weights."),
}
# What a disk refuses, whichever command asks: whose it is to mend is told, and a traceback would not help.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


class LazyGroup(click.Group):
    """A group whose `commands` only stand for those of `COMMANDS`: the one that is called is imported then."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called, or refuse as click does."""
        name, command, rest = super().resolve_command(ctx, args)
        if name:
            module = importlib.import_module(f"harness.commands.{COMMANDS[name][0]}")
            command = getattr(module, name.replace("-", "_"))
        return name, command, rest


@click.group(
    cls=LazyGroup,
    commands=[click.Command(name, short_help=words) for name, (_, words) in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
def cli() -> None:
    """Ablations of Dispersive Loss: plan a grid, run it here or on SLURM, and report it beside the paper's tables."""


def main() -> None:
    """Run the command line; a user's mistake is told in its own words and exits with 2."""
    try:
        cli(standalone_mode=False)
    except UserError as error:
        _end(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        _end(f"this command needs the package '{error.name}': pip install -e '.[train]'")
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}")
    except click.exceptions.Abort:
        _end("Stopped. Run the same command again to go on.", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)


def _end(words: str, code: int = 2) -> None:
    click.echo(words, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
