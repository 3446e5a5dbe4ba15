"""`harness report`, `harness collect` and `harness bundle`: what is made of a study's results."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from harness.commands import options
from harness.commands.terminal import say
from harness.errors import UserError, one_line, user_error
from harness.files import check_output, check_writable, gc_paused, place
from harness.store.store import BUNDLE, Store

SECONDS = 10.0  # between two looks for new results beside a run, whose cores a page takes for a second or two


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
@click.argument("studies", metavar="[STUDY]…", nargs=-1)
@click.option("--sign", is_flag=True, help="Make one page over several STUDYs instead: what decides the sign.")
@click.option("--compare", "compared", nargs=2, metavar="A B", help="Set two studies side by side instead.")
@click.option("--watch", is_flag=True, help="Serve it on this machine's loopback, and take in results as they arrive.")
@click.option("--pdf", is_flag=True, help="Write each figure as PDF too, beside its SVG.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for --watch; 0 takes a free one.")
@options.plugin
@options.results
@options.scratch
@options.reports
def report(studies: tuple[str, ...], sign: bool, compared: tuple[str, str] | None, watch: bool, pdf: bool, port: int,
           results: Path, scratch: Path, reports: Path) -> None:  # fmt: skip
    """Write STUDY's report: the paper's tables with our numbers beside the paper's. STUDY may be a bundle, STUDY.zip.

    Beside the page lie its tables as LaTeX, Markdown and CSV, its figures as SVG, all that it says as report.json, and
    summary.md. The report of STUDY.zip is written to bundles/STUDY in the folder of reports, beside your own.

    \b
    harness report digits --pdf
    harness report digits --watch
    harness report --compare digits mine
    harness report --sign overfitting dose length size clothes
    """
    if sign:
        _sign(studies, compared is not None or watch, pdf, results, scratch, reports)
        return
    if len(studies) > 1:
        raise UserError(
            f"harness report: one STUDY is expected, found {len(studies)}; --sign makes one page over several"
        )
    study = studies[0] if studies else None
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

        _tell(report_bundle(place(study, "STUDY"), reports, pdf))
    elif study is not None:
        write_and_tell(Store(results, scratch, study), reports, pdf)
    else:
        assert compared
        _tell(_compare(Store(results, scratch, compared[0]), Store(results, scratch, compared[1]), reports))


def _sign(studies: Sequence[str], otherwise: bool, pdf: bool, results: Path, scratch: Path, reports: Path) -> None:
    """Write the page over several studies."""
    if otherwise or not studies:
        raise UserError("harness report --sign: names of studies are expected, and neither --compare nor --watch")
    if bundle := next((study for study in studies if _is_bundle(study, results)), ""):
        raise UserError(f"harness report --sign: {bundle} is a bundle; names of studies in {results} are expected")
    check_writable("--reports", reports)
    from harness.report.sign.sign_page import write_sign_page

    _tell(write_sign_page([Store(results, scratch, study) for study in dict.fromkeys(studies)], reports, pdf))


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
    from harness.launchers.queue_status import QUEUE_SECONDS, Asker, slurm_status
    from harness.report.live_server import serve

    store, folder, ask = Store(results, scratch, study), reports / study, Asker(QUEUE_SECONDS)
    with user_error(f"--port {port}", "leave it out for a free one", OSError), suppress(KeyboardInterrupt):
        ready = lambda address: say(f"Watching {study} at {address} (Ctrl-C ends)")  # noqa: E731
        serve(store, folder, port, ready, statuses=lambda tables, of: slurm_status(tables, of, ask=ask).joined)
    _tell(folder / "index.html")


@contextmanager
def following_report(store: Store, reports: Path) -> Iterator[None]:
    """Serve a study's report, as --watch does, while something else makes its results."""
    stop = threading.Event()
    server = threading.Thread(target=_serve_until, args=(stop, store, reports), daemon=True)
    server.start()
    try:
        yield
    finally:
        stop.set()
        server.join()


def _serve_until(stop: threading.Event, store: Store, reports: Path) -> None:
    from harness.report.live_server import serve

    try:
        where = f"The report of {store.study}, which takes in results as they arrive:"
        serve(store, reports / store.study, 0, lambda address: say(f"{where} {address}"), SECONDS, stop)
    except (UserError, OSError) as error:
        say(f"The report does not follow any more: {one_line(error)}", err=True)


def write_and_tell(store: Store, reports: Path, pdf: bool = False) -> None:
    """Write a study's report, and say where it is."""
    with gc_paused():
        from harness.report.rendering.page import report as write_report

        page = write_report(store, reports, pdf)
    _tell(page)


def _tell(page: Path) -> None:
    say(f"Report: {page.absolute().as_uri()}")


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
