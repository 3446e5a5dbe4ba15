"""`harness report`, `harness collect` and `harness bundle`: what is made of a study's results."""

from contextlib import suppress
from pathlib import Path

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.errors import UserError, user_error
from harness.files import check_output, check_writable, place
from harness.store.store import BUNDLE, Store


@click.command()
@options.study
@options.reports
def collect(store: Store, reports: Path) -> None:
    """Write STUDY's results as one tidy CSV (and Parquet where pyarrow is installed).

    \b
    harness collect digits
    """
    from harness.report.rendering.data_files import collect_study

    check_writable("--reports", reports)
    say(collect_study(store, reports))


@click.command()
@click.argument("study", required=False)
@click.option("--compare", "compared", nargs=2, metavar="A B", help="Set two studies side by side instead.")
@click.option("--watch", is_flag=True, help="Serve it on this machine's loopback, and take in results as they arrive.")
@click.option("--pdf", is_flag=True, help="Write each figure as PDF too, beside its SVG.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for --watch; 0 takes a free one.")
@options.results
@options.scratch
@options.reports
def report(study: str | None, compared: tuple[str, str] | None, watch: bool, pdf: bool, port: int, results: Path,
           scratch: Path, reports: Path) -> None:  # fmt: skip
    """Write STUDY's report: the paper's tables with our numbers beside the paper's. STUDY may be a bundle, STUDY.zip.

    Beside the page lie its tables as LaTeX, Markdown and CSV, its figures as SVG, all that it says as report.json, and
    summary.md. The report of STUDY.zip is written to bundles/STUDY in the folder of reports, beside your own.

    \b
    harness report digits --pdf
    harness report digits --watch
    harness report --compare digits demo
    """
    if (study is None) == (compared is None):
        given = "both" if study else "neither"
        raise UserError(f"harness report: STUDY or --compare A B is expected, found {given}; name one of the two")
    check_writable("--reports", reports)
    if pdf and (compared or watch):
        raise UserError(
            "harness report --pdf: it goes with a report that is written once; leave out --watch or --compare"
        )
    if watch:
        _watch(study, port, results, scratch, reports)
        return
    if study is not None and _is_bundle(study, results):
        from harness.report.bundle import report_bundle

        path = report_bundle(place(study, "STUDY"), reports, pdf)
    elif study is not None:
        from harness.report.rendering.page import report as write_report

        path = write_report(Store(results, scratch, study), reports, pdf)
    else:
        assert compared
        path = _compare(Store(results, scratch, compared[0]), Store(results, scratch, compared[1]), reports)
    say(f"Report: {path.absolute().as_uri()}")


def _is_bundle(study: str, results: Path) -> bool:
    """Tell whether STUDY is a bundle's file; studies of an earlier harness may be called so too.

    Raises:
        UserError: it is both.
    """
    if not study.endswith(BUNDLE) or Path(study).name != study or not (results / study).is_dir():
        return study.endswith(BUNDLE)
    if Path(study).exists():
        raise UserError(
            f"STUDY {study}: a bundle here, and the study {results / study} as well; write ./{study} for the bundle, "
            "or rename the study's folder"
        )
    return False


def _watch(study: str | None, port: int, results: Path, scratch: Path, reports: Path) -> None:
    """Serve a study's report until Ctrl-C."""
    if study is None or _is_bundle(study, results):
        raise UserError("harness report --watch: a study's name is expected; a bundle and a comparison do not change")
    from harness.report.live_server import serve
    from harness.slurm.queue_status import QUEUE_SECONDS, Asker, slurm_status

    store, folder, ask = Store(results, scratch, study), reports / study, Asker(QUEUE_SECONDS)
    with user_error(f"--port {port}", "leave it out for a free one", OSError), suppress(KeyboardInterrupt):
        ready = lambda address: say(f"Watching {study} at {address} (Ctrl-C ends)")  # noqa: E731
        serve(store, folder, port, ready, statuses=lambda tables, of: slurm_status(tables, of, ask=ask).joined)
    say(f"Report: {(folder / 'index.html').absolute().as_uri()}")


def _compare(first: Store, second: Store, reports: Path) -> Path:
    """Compare two studies, list what differs in the terminal, and return the path of the page."""
    from harness.report.comparison import compare, counts, differing, summary, write_comparison

    tables = compare(first, second)
    say(summary(tables))
    for table, cell in differing(tables):
        say(f"{table.heading}: {cell.cell}: {cell.first} → {cell.second} ({cell.change_words})")
    say(", ".join(f"{count} {verdict}" for verdict, count in counts(tables).items()))
    return write_comparison(first, second, tables, reports / f"{first.study}-and-{second.study}")


@click.command()
@click.option("--output", type=options.OUTPUT, help="By default STUDY.zip, here.")
@click.option(
    "--anonymous",
    is_flag=True,
    help="Leave out names of hosts and users, absolute paths, uncommitted changes and tracebacks.",
)
@options.study
@options.reports
def bundle(store: Store, output: Path | None, anonymous: bool, reports: Path) -> None:
    """Pack STUDY into one archive: grids, results, thumbnails and the report. `harness report STUDY.zip` opens it.

    Says what the archive tells of those who made it. What looks like a secret is never packed.

    \b
    harness bundle digits --output digits.zip
    harness bundle digits --anonymous
    """
    from harness.report.bundle import bundle as pack

    path = output or Path(f"{store.study}{BUNDLE}")
    if path.suffix != BUNDLE:
        raise UserError(
            f"--output {path}: a name that ends in {BUNDLE} is expected, as 'harness report' knows it by that"
        )
    check_writable("--reports", reports)
    check_output("--output", path)
    packed = pack(store, reports, path, anonymous)
    for line in packed.gives_away:
        say(f"It tells {line}", err=True)
    if packed.gives_away:
        say("'--anonymous' leaves these out.", err=True)
    say(packed.path)
