"""Servers: one of its own for each storage that needs one, and in it an empty database for each sample."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Final

from tests.servers import mongo, postgres
from tests.servers.postgres import ROLE, PostgresServer

SERVED: Final = frozenset({"postgres", "mongo"})


class Servers:
    """The servers that run."""

    def __init__(self) -> None:
        self._postgres: PostgresServer | None = None
        self._mongo = ""
        self._numbers = count(1)

    def start(self, storages: Iterable[str], stack: ExitStack) -> None:
        """Start those that *storages* need; *stack* stops them."""
        wanted = set(storages)
        if "postgres" in wanted:
            self._postgres = stack.enter_context(postgres.running_server())
        if "mongo" in wanted:
            self._mongo = stack.enter_context(mongo.running_server()).url

    @contextmanager
    def database(self, storage: str) -> Iterator[str]:
        """Give the URL of an empty database; "" where *storage* needs none. It is dropped after the block."""
        name = f"bench{next(self._numbers)}"
        if storage == "postgres" and self._postgres is not None:
            self._postgres.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
            try:
                yield f"{self._postgres.url.rpartition('/')[0]}/{name}"
            finally:
                self._postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
        else:
            yield f"{self._mongo}/{name}" if storage == "mongo" else ""


@contextmanager
def running(storages: Iterable[str]) -> Iterator[Servers]:
    """Run the servers that *storages* need."""
    servers = Servers()
    with ExitStack() as stack:
        servers.start(storages, stack)
        yield servers
