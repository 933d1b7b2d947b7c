"""An event loop, a file and an open storage for each test."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.plugins import Plugins
from pannier.urls import StorageUrl
from pannier_sqlite.plugin import SqlitePlugin

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

MakeStorage = Callable[[str], "SqliteStorage"]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database file is to be."""
    return tmp_path / "jobs.db"


@pytest.fixture
def make(path: Path) -> MakeStorage:
    """Makes unopened storages on the file, with more URL options; all of one plugin object."""
    plugins = Plugins()
    plugins.register(SqlitePlugin())

    def make(options: str) -> "SqliteStorage":
        return plugins.create_storage(StorageUrl(f"sqlite:///{path}?synchronous=normal{options}"))  # type: ignore[return-value]

    return make


@pytest.fixture
def storage(runner: asyncio.Runner, make: MakeStorage) -> Iterator["SqliteStorage"]:
    """An open storage with a short timeout."""
    storage = make("&timeout=0.2")
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def other(path: Path, storage: "SqliteStorage") -> Iterator[sqlite3.Connection]:
    """Another program's connection to the same file, in autocommit mode."""
    assert storage is not None
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


@pytest.fixture
def ids() -> Callable[[], UUID]:
    """Gives tracking ids, the same ones in each run."""
    rng = random.Random(0)
    return lambda: UUID(int=rng.getrandbits(128), version=4)
