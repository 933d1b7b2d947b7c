"""`pannier demo`: a few dozen jobs of all kinds, executed before your eyes. Uses the public API only."""

import asyncio
import logging
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

SEEDS = 10_000


def demo(
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Where the jobs are queued, and left; by default an SQLite file that is removed at the end.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides how the jobs vary; by default another one each time.")
    ] = None,
) -> None:
    """
    Watch a few dozen jobs of all kinds run, in a worker process of their own.

    They are quick or slow, fail for a while or for good, are set for later, or cancelled while they run. At the end
    another process reads from the storage what became of each. The exit code is 0 if everything is as it should be.
    """
    from pannier.cli.demo.show import run_demo
    from pannier.cli.showing import console

    logging.getLogger("pannier").setLevel(logging.ERROR)  # the duplicate that it warns of is wanted here
    with TemporaryDirectory(prefix="pannier-demo-") as folder:
        url = storage or f"sqlite:///{(Path(folder) / 'jobs.db').as_posix()}"
        chosen = Random().randrange(SEEDS) if seed is None else seed
        asyncio.run(run_demo(url, seed=chosen, log=Path(folder) / "worker.log", console=console()))
