"""The command line: its commands, and which mistake is whose. Heavy imports stay inside the commands, so that help and
plans answer at once."""

import errno
import sys

import click

from harness.commands.data_encode import data, encode
from harness.commands.doctor import doctor
from harness.commands.key_listing import keys
from harness.commands.measure import measure, measure_study
from harness.commands.plan_run_submit import plan, run, submit
from harness.commands.probe import probe
from harness.commands.report import bundle, collect, report
from harness.commands.status_retry_cancel import cancel, logs, retry, show, status
from harness.commands.weights import weights
from harness.errors import UserError

# What a disk refuses, whichever command asks: whose it is to mend is told, and a traceback would not help.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ablations of Dispersive Loss: plan a grid, run it here or on SLURM, and report it beside the paper's tables."""


for command in (
    plan, run, submit, status, logs, show, retry, cancel, collect, report, bundle, keys, doctor, data, encode, weights,
    measure, measure_study, probe,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; a user's mistake is told in its own words and exits with 2."""
    try:
        cli(standalone_mode=False)
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        click.echo(f"this command needs the package '{error.name}': pip install -e '.[train]'", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        click.echo(f"{error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    except click.exceptions.Abort:
        click.echo("Stopped. Run the same command again to go on.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)


if __name__ == "__main__":
    main()
