"""`harness bundle`, and what `harness report` does: a study's page, written once or watched, or two side by side."""

from pathlib import Path

import click

from harness.commands.options import reports_option, results_option, scratch_option
from harness.errors import UserError
from harness.files import check_writable
from harness.store.store import Store

BUNDLE = ".zip"


def make_reports(
    study: str | None,
    compared: tuple[str, str] | None,
    port: int | None,
    pdf: bool,
    results: Path,
    scratch: Path,
    reports: Path,
) -> None:
    """Write the report of a study or of a bundle, or the comparison of two studies, and say where it is.

    port: serve the study's report there while it runs, 0 for a free one; None writes it once. pdf: figures as PDF too.

    Raises:
        UserError: neither or both are asked for, or what `report`, `report_bundle` and `compare` refuse.
    """
    if (study is None) == (compared is None):
        found = "both" if study else "neither"
        raise UserError(f"harness report: STUDY or --compare A B is expected, found {found}; name one of the two")
    check_writable("--reports", reports)
    if pdf and (compared or port is not None):
        raise UserError(
            "harness report --pdf: it goes with a report that is written once; leave out --watch or --compare"
        )
    if port is not None:
        _watch(study, port, results, scratch, reports)
        return
    if study is not None and study.endswith(BUNDLE):
        from harness.report.bundle import report_bundle

        path = report_bundle(Path(study), reports, pdf)
    elif study is not None:
        from harness.report.rendering.page import report

        path = report(Store(results, scratch, study), reports, pdf)
    else:
        assert compared
        path = _compare(Store(results, scratch, compared[0]), Store(results, scratch, compared[1]), reports)
    click.echo(f"Report: {path.absolute().as_uri()}")


def _watch(study: str | None, port: int, results: Path, scratch: Path, reports: Path) -> None:
    """Serve a study's report until Ctrl-C."""
    if study is None or study.endswith(BUNDLE):
        raise UserError("harness report --watch: a study's name is expected; a bundle and a comparison do not change")
    from harness.report.live import serve

    try:
        serve(
            Store(results, scratch, study), reports / study, port,
            lambda address: click.echo(f"Watching {study} at {address} (Ctrl-C ends)"),
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(f"Report: {(reports / study / 'index.html').absolute().as_uri()}")
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; leave it out for a free one") from None


@click.command()
@click.argument("study")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="By default STUDY.zip, here.")
@results_option
@scratch_option
@reports_option
def bundle(study: str, output: Path | None, results: Path, scratch: Path, reports: Path) -> None:
    """Pack STUDY into one archive: grids, results, thumbnails and the report. `harness report STUDY.zip` opens it.

    \b
    harness bundle digits --output digits.zip
    """
    from harness.report.bundle import bundle as pack

    store, path = Store(results, scratch, study), output or Path(f"{study}{BUNDLE}")
    if path.suffix != BUNDLE:
        raise UserError(
            f"--output {path}: a name that ends in {BUNDLE} is expected, as 'harness report' knows it by that"
        )
    check_writable("--reports", reports)
    check_writable("--output", path.parent)
    click.echo(pack(store, reports, path))


def _compare(first: Store, second: Store, reports: Path) -> Path:
    """Compare two studies, list what differs in the terminal, and return the path of the page."""
    from harness.report.comparison import compare, counts, differing, write_comparison

    tables = compare(first, second)
    for table, cell in differing(tables):
        click.echo(f"{table.heading}: {cell.cell}: {cell.first} → {cell.second} ({cell.change_words})")
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts(tables).items()))
    return write_comparison(first, second, tables, reports / f"{first.study}-and-{second.study}")
