"""What `harness status` does: once, again and again, or as JSON."""

import time

import click
from rich.live import Live

from harness.commands.console import console
from harness.commands.status_listing import in_json, table
from harness.store.records import HEARTBEAT_SECONDS
from harness.store.store import Store
from harness.store.study import study_tables, training_statuses


def show_status(store: Store, watch: bool, as_json: bool) -> None:
    """Print how every training of a study stands; watch: again and again, until all are done or the user stops it.

    Raises:
        UserError: there is no such study, or one of its grid files is not here.
    """
    tables, screen = study_tables(store), console()
    if as_json:
        click.echo(in_json(store.study, training_statuses(tables, store)))
        return
    if not watch:
        screen.print(table(store.study, training_statuses(tables, store)))
        return
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            statuses = training_statuses(tables, store)
            live.update(table(store.study, statuses, most=max(1, screen.height - 4)), refresh=True)
            if all(status.state == "done" for status in statuses):
                return
            time.sleep(HEARTBEAT_SECONDS)
