"""`harness keys`: what may stand in the files that people write."""

import click

from harness.errors import UserError, nearest


@click.command()
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
    every = {name: key_reference.keys(model) for name, model in key_reference.MODELS.items()}
    matching = {name: [key for key in keys if key.name.startswith(start)] for name, keys in every.items()}
    if not any(matching.values()):
        names = [key.name for keys in every.values() for key in keys]
        raise UserError(f"keys: none begins with '{start}'{nearest(start, names)}")
    print_keys({key_reference.TITLES[name]: rows for name, rows in matching.items() if rows})
