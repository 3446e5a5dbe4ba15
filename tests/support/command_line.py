"""The commands that there are."""

import click


def called(group: click.Group, name: str) -> click.Command:
    _, command, _ = group.resolve_command(click.Context(group), [name])
    assert command
    return command


def leaves(command: click.Command, *path: str) -> dict[tuple[str, ...], click.Command]:
    """Return every command by the words that call it."""
    if not isinstance(command, click.Group):
        return {path: command}
    return {
        words: leaf for name in command.commands for words, leaf in leaves(called(command, name), *path, name).items()
    }
