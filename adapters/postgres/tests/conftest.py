"""An event loop, a schema and an open storage for each test."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest

from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_postgres.plugin import PostgresPlugin

if TYPE_CHECKING:
    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

MakeStorage = Callable[[str], "PostgresStorage"]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def plugins() -> Plugins:
    """Plugins among which PostgreSQL's is the only one."""
    plugins = Plugins()
    plugins.register(PostgresPlugin())
    return plugins


@pytest.fixture
def schema() -> str:
    """A schema that nobody else uses."""
    return f"t{uuid4().hex}"


@pytest.fixture
def url(runner: asyncio.Runner, plugins: Plugins, postgres_url: str, schema: str) -> Iterator[str]:
    """The URL of a storage on the session's server, in that schema. What it holds is removed at the end."""
    url = f"{postgres_url}?schema={schema}"
    yield url
    runner.run(destroyed(plugins, StorageUrl(url)))


async def destroyed(plugins: Plugins, url: StorageUrl) -> None:
    await plugins.adapter_for(url).destroy(url)


@pytest.fixture
def make(plugins: Plugins, url: str) -> MakeStorage:
    """Makes unopened storages on the schema, with more URL options; all of one plugin object."""

    def make(options: str) -> "PostgresStorage":
        return plugins.create_storage(StorageUrl(url + options))  # type: ignore[return-value]

    return make


@pytest.fixture
def storage(runner: asyncio.Runner, make: MakeStorage) -> Iterator["PostgresStorage"]:
    """An open storage."""
    storage = make("")
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def other(runner: asyncio.Runner, postgres_url: str, schema: str, storage: "PostgresStorage") -> Iterator["Connection"]:
    """Another program's connection to the same database, which finds the schema's tables by their names alone."""
    assert storage is not None
    connection = runner.run(asyncpg.connect(postgres_url, server_settings={"search_path": schema}))
    yield connection
    runner.run(connection.close(timeout=5))


@pytest.fixture
def ids() -> Callable[[], UUID]:
    """Gives tracking ids, the same ones in each run."""
    rng = random.Random(0)
    return lambda: UUID(int=rng.getrandbits(128), version=4)
