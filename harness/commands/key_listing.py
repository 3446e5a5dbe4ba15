"""`harness keys`: what may stand in the files that people write."""

import click

from harness.commands import options
from harness.commands.terminal import TextTable, console, say
from harness.config import key_reference
from harness.errors import UserError, nearest


@click.command()
@click.argument("start", default="")
@options.plugin
@click.option("--markdown", is_flag=True, help="Print the page of documentation that lists them all.")
def keys(start: str, markdown: bool) -> None:
    """List the keys of grid files, scale files and settings that begin with START, with what may stand there.

    \b
    harness keys sampler
    harness keys regularizer.tau
    harness keys terms --plugin near_times.py
    """
    if markdown:
        say(key_reference.markdown(), nl=False)
        return
    sections = {title: key_reference.keys(model) for title, model in key_reference.MODELS.items()}
    sections |= key_reference.term_keys() | key_reference.process_keys()
    names = [key.name for keys in sections.values() for key in keys]
    if not any(name.startswith(start) for name in names):
        raise UserError(f"keys: none begins with '{start}'{nearest(start, names)}")
    for title, keys in sections.items():
        rows = [
            {"key": key.name, "legal": key.legal, "default": key.default or "needed", "meaning": key.meaning}
            for key in keys if key.name.startswith(start)
        ]  # fmt: skip
        if rows:
            console().print(TextTable(title, rows), "")
