"""Real servers for tests, each started once a session, when a test first asks for it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest
from tests.servers import mongo, postgres
from tests.servers.mongo import MongoServer
from tests.servers.postgres import PostgresServer

T = TypeVar("T")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server: what PANNIER_TEST_POSTGRESQL_URL says, or a server started for this session."""
    with started(postgres.server_url()) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the tests of one module, to be stopped, killed and ruled over."""
    with started(postgres.running_server()) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """The URL of a MongoDB server: what PANNIER_TEST_MONGODB_URL says, or a stand-in started for this session."""
    with started(mongo.server_url()) as url:
        yield url


@pytest.fixture(scope="module")
def mongo_server() -> Iterator[MongoServer]:
    """A stand-in for MongoDB for the tests of one module, to be stopped, killed and started anew."""
    with started(mongo.running_server()) as server:
        yield server


@pytest.fixture(scope="module")
def failing_mongo_server() -> Iterator[MongoServer]:
    """A stand-in for MongoDB that fails when it is told to."""
    with started(mongo.running_server(mongo.FAIL_POINTS)) as server:
        yield server


@pytest.fixture(scope="module")
def standalone_mongo_server() -> Iterator[MongoServer]:
    """A stand-in for MongoDB that is no member of a replica set."""
    with started(mongo.running_server(mongo.STANDALONE)) as server:
        yield server


@contextmanager
def started(server: AbstractContextManager[T]) -> Iterator[T]:
    """Start *server*, or skip the test where there is none to start."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except (mongo.NoServerError, postgres.NoServerError) as error:
            pytest.skip(str(error))
        yield running
