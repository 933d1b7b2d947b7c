"""The reference of the command line, held against the command itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from pannier.cli.app import make_app
from pannier.cli.exits import ExitCode

REFERENCE = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()


def commands(group: TyperGroup, path: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command below *group* with the long names of its options."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", {long for each in command.params for long in each.opts if long.startswith("--")}


def command_line() -> dict[str, set[str]]:
    """Return every command with its options."""
    group = typer.main.get_command(make_app())
    assert isinstance(group, TyperGroup)
    return dict(commands(group, "pannier"))


def documented() -> dict[str, set[str]]:
    """Return every command that has a section, with the options in its table."""
    sections = re.split(r"^## ", REFERENCE, flags=re.MULTILINE)
    titles = [(section.partition("\n")[0], section) for section in sections]
    return {
        title: set(re.findall(r"^\| `(--[a-z-]+)", section, flags=re.MULTILINE))
        for title, section in titles
        if title.startswith("pannier ")
    }


def test_every_command_and_option_is_documented_and_nothing_else() -> None:
    """Each command has a section, and its table lists exactly the options that it takes."""
    assert documented() == command_line()


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes lists exactly those that there are."""
    assert set(re.findall(r"^\| (\d+) \|", REFERENCE, flags=re.MULTILINE)) == {str(int(code)) for code in ExitCode}
