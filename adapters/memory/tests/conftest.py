"""An event loop, a plugin and an open storage for each test."""

import asyncio
import random
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_memory.plugin import MemoryPlugin
from pannier_memory.provider import MemoryStorage

MakeStorage = Callable[[str], MemoryStorage]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def make() -> MakeStorage:
    """Makes unopened storages, all of one plugin object."""
    plugins = Plugins()
    plugins.register(MemoryPlugin())
    return lambda url: plugins.create_storage(StorageUrl(url))  # type: ignore[return-value]


@pytest.fixture
def storage(runner: asyncio.Runner, make: MakeStorage) -> Iterator[MemoryStorage]:
    """An open storage that nobody else has."""
    storage = make("memory://")
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def ids() -> Callable[[], UUID]:
    """Gives tracking ids, the same ones in each run."""
    rng = random.Random(0)
    return lambda: UUID(int=rng.getrandbits(128), version=4)
