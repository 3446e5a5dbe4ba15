"""The command line. Heavy imports stay inside the commands, so that help and plans answer at once."""

import errno
import sys
from pathlib import Path

import click

from harness.commands.doctor import doctor
from harness.commands.get_data import data, encode
from harness.commands.measure import measure, measure_study
from harness.commands.options import reports_option, results_option, scratch_option
from harness.commands.plan_run_submit import plan, run, submit
from harness.commands.probe import probe
from harness.commands.report import bundle
from harness.commands.status_retry_cancel import cancel, logs, print_conditions, retry, show
from harness.commands.weights import weights
from harness.errors import UserError, nearest
from harness.store.store import Store

# What a disk refuses, whichever command asks: whose it is to mend is told, and a traceback would not help.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ablations of Dispersive Loss: plan a grid, run it here or on SLURM, and report it beside the paper's tables."""


@cli.command()
@click.argument("study")
@results_option
@scratch_option
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until all is done.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(study: str, results: Path, scratch: Path, watch: bool, as_json: bool) -> None:
    """Say how each training of STUDY stands, from its folders alone, whichever machine it runs on.

    \b
    harness status digits
    harness status digits --watch
    """
    from harness.commands.status_watch import show_status

    show_status(Store(results, scratch, study), watch, as_json)
    if not as_json:
        print_conditions(Store(results, scratch, study))


@cli.command()
@click.argument("study")
@results_option
@scratch_option
@reports_option
def collect(study: str, results: Path, scratch: Path, reports: Path) -> None:
    """Write STUDY's results as one tidy CSV (and Parquet where pyarrow is installed).

    \b
    harness collect digits
    """
    from harness.files import check_writable
    from harness.report.rendering.data_files import collect_study

    store = Store(results, scratch, study)
    check_writable("--reports", reports)
    click.echo(collect_study(store, reports))


@cli.command()
@click.argument("study", required=False)
@click.option("--compare", "compared", nargs=2, metavar="A B", help="Set two studies side by side instead.")
@click.option("--watch", is_flag=True, help="Serve it on this machine's loopback, and take in results as they arrive.")
@click.option("--pdf", is_flag=True, help="Write each figure as PDF too, beside its SVG.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for --watch; by default a free one.")
@results_option
@scratch_option
@reports_option
def report(study: str | None, compared: tuple[str, str] | None, watch: bool, pdf: bool, port: int, results: Path,
           scratch: Path, reports: Path) -> None:  # fmt: skip
    """Write STUDY's report: the paper's tables with our numbers beside the paper's. STUDY may be a bundle, STUDY.zip.

    Beside the page lie its tables as LaTeX, Markdown and CSV, its figures as SVG, all that it says as report.json, and
    summary.md.

    \b
    harness report digits --pdf
    harness report digits --watch
    harness report --compare digits demo
    """
    from harness.commands.report import make_reports

    make_reports(study, compared, port if watch else None, pdf, results, scratch, reports)


@cli.command()
@click.argument("start", default="")
@click.option("--markdown", is_flag=True, help="Print the page of documentation that lists them all.")
def keys(start: str, markdown: bool) -> None:
    """List the keys of grid files, scale files and settings that begin with START, with what may stand there.

    \b
    harness keys sampler
    harness keys regularizer.tau
    """
    from harness.commands.console import print_keys
    from harness.config import key_reference

    if markdown:
        click.echo(key_reference.markdown(), nl=False)
        return
    sections = {title: key_reference.keys(model) for title, model in key_reference.MODELS.items()}
    matching = {title: [key for key in rows if key.name.startswith(start)] for title, rows in sections.items()}
    if not any(matching.values()):
        names = [key.name for rows in sections.values() for key in rows]
        raise UserError(f"keys: none begins with '{start}'{nearest(start, names)}")
    print_keys({title: rows for title, rows in matching.items() if rows})


for command in (
    plan, run, submit, logs, show, retry, cancel, doctor, data, encode, weights, measure, measure_study, probe, bundle,
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
