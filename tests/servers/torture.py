"""
The torture rig on one of this repository's storages, with a server of its own that may be killed.

    python -m tests.servers.torture postgres --kills 50 --servers 3 --jobs 2000

The options are those of `pannier torture`.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from attrs import frozen
from tests.servers import mongo, postgres

from pannier_testing.torture.command import app
from pannier_testing.torture.plan import Server

TIMEOUT: Final = "timeout=1"
"""Seconds until a storage that doesn't answer is given up: less than a lease."""

PATIENT: Final = "timeout=20"
"""
The same for the stand-in of MongoDB, whose commands take seconds on a busy machine.

Storing a job that is there already takes three of them, one after another: with less patience every repeat of it is
given up before the third, while new jobs are stored by one.
"""

DIRECT: Final = "directConnection=true"
"""Without it the driver asks the stand-in for its address, and goes past the proxy: no fault of the network is met."""


@frozen
class KilledPostgres:
    """A PostgreSQL that is stopped by SIGKILL, not by its own command."""

    server: postgres.PostgresServer

    def crash(self) -> None:
        """Kill it."""
        self.server.kill()

    def start(self) -> None:
        """Start it on what is on the disk."""
        self.server.start()


@frozen
class Stage:
    """A storage to torture: the template of its URL, its engine, and its server."""

    url: str
    engine: str = ""
    server: Server | None = None


@contextmanager
def stage_of(name: str) -> Iterator[Stage]:
    """Start what the storage *name* needs."""
    match name:
        case "sqlite":
            yield Stage("sqlite:///{tmp}/jobs.db")
        case "postgres":
            with postgres.running_server() as server:
                yield Stage(f"{server.url}?schema={{namespace}}&{TIMEOUT}", _version_of(server), KilledPostgres(server))
        case "mongo":
            with mongo.running_server() as stand_in:
                engine = f"SecantusDB {version('secantusdb')}"
                yield Stage(f"{stand_in.url}/{{namespace}}?{DIRECT}&{PATIENT}", engine, stand_in)
        case _:
            raise LookupError(f"no storage {name!r}: sqlite, postgres or mongo")


def main(arguments: Sequence[str]) -> None:
    """Run the rig with *arguments*, the first of which is the storage."""
    name, *options = arguments
    with stage_of(name) as stage:
        app([stage.url, f"--engine={stage.engine}", *options], obj=stage.server)


def _version_of(server: postgres.PostgresServer) -> str:
    told = subprocess.run([server.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return f"PostgreSQL {told.stdout.split()[2]}"


if __name__ == "__main__":
    main(sys.argv[1:])
