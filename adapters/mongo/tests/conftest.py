"""An event loop, a database and an open storage for each test."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID, uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_mongo._documents import CODEC
from pannier_mongo.plugin import MongoPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier_mongo.provider import MongoStorage

MakeStorage: TypeAlias = Callable[[str], "MongoStorage"]
Database: TypeAlias = AsyncDatabase["Mapping[str, object]"]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def plugins() -> Plugins:
    """Plugins among which MongoDB's is the only one."""
    plugins = Plugins()
    plugins.register(MongoPlugin())
    return plugins


@pytest.fixture
def database() -> str:
    """A database that nobody else uses."""
    return f"t{uuid4().hex}"


@pytest.fixture
def url(runner: asyncio.Runner, plugins: Plugins, mongo_url: str, database: str) -> Iterator[str]:
    """The URL of a storage on the session's server, in that database. What it holds is removed at the end."""
    url = f"{mongo_url}/{database}?appName=test"
    yield url
    runner.run(destroyed(plugins, StorageUrl(url)))


async def destroyed(plugins: Plugins, url: StorageUrl) -> None:
    await plugins.adapter_for(url).destroy(url)


@pytest.fixture
def make(plugins: Plugins, url: str) -> MakeStorage:
    """Makes unopened storages on the database, with more URL options."""

    def make(options: str) -> "MongoStorage":
        return plugins.create_storage(StorageUrl(url + options))  # type: ignore[return-value]

    return make


@pytest.fixture
def storage(runner: asyncio.Runner, make: MakeStorage) -> Iterator["MongoStorage"]:
    """An open storage."""
    storage = make("&timeout=20")
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def other(runner: asyncio.Runner, mongo_url: str, database: str, storage: "MongoStorage") -> Iterator[Database]:
    """The same database, as another program reaches it."""
    assert storage is not None
    client: AsyncMongoClient[Mapping[str, object]] = AsyncMongoClient(mongo_url)
    yield client.get_database(database, codec_options=CODEC)
    runner.run(client.close())


@pytest.fixture
def ids() -> Callable[[], UUID]:
    """Gives tracking ids, the same ones in each run."""
    rng = random.Random(0)
    return lambda: UUID(int=rng.getrandbits(128), version=4)
