"""What `harness status` does: once, again and again, or as JSON."""

import time

import click

from harness.store import Store


def show_status(store: Store, watch: bool, as_json: bool) -> None:
    """Print how every training of a study stands; watch: until the user stops it or nothing is left to do."""
    from harness.launch.listing import console
    from harness.launch.plan import study_tables
    from harness.launch.standing import standings
    from harness.launch.status_listing import as_json as in_json
    from harness.launch.status_listing import table

    tables = study_tables(store)
    if as_json:
        click.echo(in_json(store.study, standings(tables, store)))
    elif watch:
        _watch(store)
    else:
        console().print(table(store.study, standings(tables, store)))


def _watch(store: Store) -> None:
    from rich.live import Live

    from harness.launch.listing import console
    from harness.launch.plan import study_tables
    from harness.launch.standing import standings
    from harness.launch.status_listing import table
    from harness.store import HEARTBEAT_SECONDS

    tables, screen = study_tables(store), console()
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            found = standings(tables, store)
            live.update(table(store.study, found, most=max(1, screen.height - 4)), refresh=True)
            if all(standing.state == "done" for standing in found):
                return
            time.sleep(HEARTBEAT_SECONDS)
