"""Puts the command `pannier` together, and turns what it raises into a line and an exit code."""

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final

import typer

from pannier.cli import jobs
from pannier.cli.demo import demo
from pannier.cli.exits import code_of, line_of
from pannier.cli.extensions import add_extensions
from pannier.cli.queues import purge, queues
from pannier.cli.storages import adapters, ping
from pannier.cli.targets import TargetError
from pannier.cli.worker import worker
from pannier.errors import PannierError

HELP: Final = """
Background jobs for Python on the storage you already have.

A TARGET is MODULE:JOBS, where JOBS is a JobQueues in MODULE, or a storage URL such as sqlite:///jobs.db. Where a
command line names none, the environment variable PANNIER_STORAGE does.
"""


def make_app() -> typer.Typer:
    """Return the command with its own sub-commands."""
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["--help", "-h"]},
        pretty_exceptions_enable=False,  # they would print the values of variables, secrets among them
    )
    app.callback()(_options)
    for command in (demo, worker, ping, adapters, queues, purge):
        app.command()(command)
    app.add_typer(jobs.app, name="jobs")
    return app


def run(arguments: Sequence[str]) -> int:
    """
    Run the command line *arguments*.

    Returns:
        The exit code. What pannier raises on purpose is told in one line; anything else is a bug, and is raised.
    """
    app = make_app()
    own = own_commands(app)
    if not arguments or arguments[0] not in {*own, "--version"}:  # what is our own needs nobody else's
        for error in add_extensions(app, taken=own):
            print(line_of(error), file=sys.stderr)
    try:
        app(arguments, prog_name="pannier")
    except PannierError as error:
        if isinstance(error, TargetError) and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)  # the fault is in the user's module, and he must find it
        print(line_of(error), file=sys.stderr)
        return code_of(error)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def own_commands(app: typer.Typer) -> frozenset[str]:
    """Return the names of the commands in *app*."""
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    return frozenset({*commands, *(group.name for group in app.registered_groups if group.name)})


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pannier {version('pannier')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    pass
