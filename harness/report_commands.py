"""What `harness report` does: the page of one study, or two studies side by side."""

from pathlib import Path

import click

from harness.errors import UserError
from harness.files import check_writable
from harness.store import Store


def make_reports(
    study: str | None, compared: tuple[str, str] | None, results: Path, scratch: Path, reports: Path
) -> None:
    """Write the report of a study or the comparison of two, and say where it is.

    Raises:
        UserError: neither or both are asked for, or what `report` and `compare` refuse.
    """
    if (study is None) == (compared is None):
        found = "both" if study else "neither"
        raise UserError(f"harness report: STUDY or --compare A B is expected, found {found}; name one of the two")
    check_writable("--reports", reports)
    if study is not None:
        from harness.report.page import report

        path = report(Store(results, scratch, study), reports)
    else:
        assert compared
        path = _compare(Store(results, scratch, compared[0]), Store(results, scratch, compared[1]), reports)
    click.echo(f"Report: {path.absolute().as_uri()}")


def _compare(first: Store, second: Store, reports: Path) -> Path:
    """Compare two studies, list what differs in the terminal, and return the path of the page."""
    from harness.report.compare import compare, counts, differing, write_comparison

    tables = compare(first, second)
    for table, cell in differing(tables):
        click.echo(f"{table.heading}: {cell.cell}: {cell.first} → {cell.second} ({cell.change_words})")
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts(tables).items()))
    return write_comparison(first, second, tables, reports / f"{first.study}-and-{second.study}")
