"""Puts the command `pannier` together, and turns what it raises into a line and an exit code."""

import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Annotated, Final

import typer

from pannier.cli.exits import code_of, line_of
from pannier.cli.extensions import add_extensions
from pannier.cli.targets import TargetError
from pannier.errors import PannierError

HELP: Final = """
Background jobs for Python on the storage you already have.

A TARGET is MODULE:JOBS, where JOBS is a JobQueues in MODULE, or a storage URL such as sqlite:///jobs.db. Where a
command line names none, the environment variable PANNIER_STORAGE does.
"""


OWN: Final = ("demo", "worker", "ping", "adapters", "queues", "purge", "jobs")
"""The commands of pannier itself, in the order of the help."""


def make_app(names: Iterable[str] = OWN) -> typer.Typer:
    """Return the command with those of its own sub-commands that *names* lists; the others are not even imported."""
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["--help", "-h"]},
        pretty_exceptions_enable=False,  # they would print the values of variables, secrets among them
    )
    app.callback()(_options)
    for name in names:
        _add(name, app)
    return app


def _add(name: str, app: typer.Typer) -> None:
    """Import a sub-command and add it: a worker draws no tables, and starts a third sooner without what does."""
    match name:
        case "demo":
            from pannier.cli.demo import demo

            app.command()(demo)
        case "worker":
            from pannier.cli.worker import worker

            app.command()(worker)
        case "ping" | "adapters":
            from pannier.cli import storages

            app.command()(storages.ping if name == "ping" else storages.adapters)
        case "queues" | "purge":
            from pannier.cli import queues

            app.command()(queues.queues if name == "queues" else queues.purge)
        case "jobs":
            from pannier.cli import jobs

            app.add_typer(jobs.app, name=name)
        case _:
            raise ValueError(f"pannier has no command {name!r} of its own")


def run(arguments: Sequence[str]) -> int:
    """
    Run the command line *arguments*.

    Returns:
        The exit code. What pannier raises on purpose is told in one line; anything else is a bug, and is raised.
    """
    first = arguments[0] if arguments else ""
    app = make_app([first] if first in OWN else OWN)
    if first not in {*OWN, "--version"}:  # what is our own needs nobody else's
        for error in add_extensions(app, taken=OWN):
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
