"""Sub-commands that other distributions add, through the entry-point group `pannier.cli`."""

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import typer

from pannier.cli.words import kind_of
from pannier.errors import BrokenPluginError

GROUP: Final = "pannier.cli"


def add_extensions(app: typer.Typer, *, taken: Collection[str]) -> list[BrokenPluginError]:
    """
    Add what is installed to *app*, each under the name of its entry point.

    A Typer with one command and no callback becomes that command, any other becomes a group of commands.

    Args:
        app: What to add to.
        taken: Names that are not to be had.

    Returns:
        Those that were left out, with the reason.
    """
    left_out: list[BrokenPluginError] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            extension = load_extension(entry, taken=taken)
        except BrokenPluginError as error:
            left_out.append(error)
        else:
            _add(app, extension, entry.name)
    return left_out


def broken_commands() -> list[BrokenPluginError]:
    """Return the sub-commands that can't be loaded."""
    return add_extensions(typer.Typer(), taken=())


def load_extension(entry: EntryPoint, *, taken: Collection[str]) -> typer.Typer:
    """
    Return the Typer that *entry* names.

    Raises:
        BrokenPluginError: It can't be imported, is no Typer, or has a name of *taken*.
    """
    if entry.name in taken:
        raise BrokenPluginError(entry.name, f"pannier has a command {entry.name!r} of its own")
    try:
        extension: object = entry.load()
    except Exception as error:  # a third party's import may raise anything
        raise BrokenPluginError(
            entry.name, f"{entry.value} can't be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(extension, typer.Typer):
        raise BrokenPluginError(entry.name, f"{entry.value} is no typer.Typer, but {kind_of(extension)}")
    return extension


def _add(app: typer.Typer, extension: typer.Typer, name: str) -> None:
    is_one_command = len(extension.registered_commands) == 1
    if is_one_command and extension.registered_callback is None and not extension.registered_groups:
        [command] = extension.registered_commands
        command.name = name
        app.registered_commands.append(command)
    else:
        app.add_typer(extension, name=name)
