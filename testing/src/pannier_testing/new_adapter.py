"""The command `pannier new-adapter`: begin an adapter with something that works."""

from pathlib import Path
from typing import Annotated

import typer

from pannier_testing.skeleton import write_skeleton

app = typer.Typer()


@app.command()
def new_adapter(
    name: Annotated[str, typer.Argument(help="the URL scheme, such as 'lmdb'; the distribution is pannier-NAME")],
    folder: Annotated[Path | None, typer.Option(help="where to write it; by default pannier-NAME, here")] = None,
) -> None:
    """
    Write the skeleton of an adapter: a distribution with a plugin, a storage that works, its certification, and CI.

    Exits with 1, having written nothing, where the folder exists.
    """
    into = folder or Path(f"pannier-{name}")
    try:
        written = write_skeleton(name, into)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except FileExistsError as error:
        typer.echo(f"{into} exists already; choose another folder with --folder", err=True)
        raise typer.Exit(1) from error
    for path in written:
        typer.echo(path)
