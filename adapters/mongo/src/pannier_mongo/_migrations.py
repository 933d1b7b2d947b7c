"""The schema: collections, indexes and their version."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import pymongo
from attrs import frozen
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import PyMongoError

from pannier.errors import ConfigurationError, SchemaTooNewError, StorageRefusedError
from pannier_mongo._connection import JOBS, QUEUES, SCHEMA, SETTLING, Client, connect, database_of
from pannier_mongo._errors import translated
from pannier_mongo._queries import INDEXES, SETTLING_INDEX
from pannier_mongo.settings import Settings

VERSION: Final = 1
"""The version of the schema that this adapter makes and knows."""

OLDEST_WIRE_VERSION: Final = 13
"""MongoDB 5.0."""

_MARKER: Final = "schema"

Database: TypeAlias = AsyncDatabase[Mapping[str, object]]


@frozen
class Server:
    """
    What the server says of itself.

    Attributes:
        has_transactions: It is a member of a replica set, or a router of a sharded cluster.
    """

    has_transactions: bool


async def prepare(client: Client, settings: Settings) -> Server:
    """
    Create or migrate what the storage needs; idempotent, and may be killed at any point.

    Raises:
        SchemaTooNewError: It was made by a newer adapter that this one can't work with.
        StorageRefusedError: The server is too old.
        PyMongoError: The server is not there, or refuses.
    """
    hello = await _hello(client, settings)
    database = database_of(client, settings)
    version = await _version(database)
    if version is None or version < VERSION:
        await database[JOBS].create_indexes(list(INDEXES))
        await database[SETTLING].create_indexes([SETTLING_INDEX])
        # Last, so that a store that has a version has all of it.
        await database[SCHEMA].update_one(
            {"_id": _MARKER}, {"$max": {"version": VERSION, "compatible_with": VERSION}}, upsert=True
        )
    return Server(has_transactions="setName" in hello or hello.get("msg") == "isdbgrid")


async def destroy(settings: Settings) -> None:
    """Drop the collections that `prepare` and the storage make, and nothing else of the database."""
    client = new_client(settings)
    try:
        with pymongo.timeout(settings.timeout.total_seconds()):
            database = database_of(client, settings)
            for name in (SCHEMA, JOBS, QUEUES, SETTLING):  # the version first: a store without one is made anew
                await database.drop_collection(name)
    except PyMongoError as error:
        raise translated(error, settings.shown) from error
    finally:
        await client.close()


def new_client(settings: Settings) -> Client:
    """
    Make a client.

    Raises:
        ConfigurationError: The driver can't read the URL; its own words might hold a part of the password.
    """
    try:
        return connect(settings)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(
            f"{settings.shown} can't be used ({type(error).__name__}); check hosts and options, and percent-encode "
            f"what is special in user and password"
        ) from None


async def _hello(client: Client, settings: Settings) -> Mapping[str, Any]:
    """Return what the server says of itself. The driver speaks to no server that is much older, or newer, than it."""
    try:
        hello = await client.admin.command("hello")
    except DriverConfigurationError as error:
        if _fits(client):
            raise
        raise StorageRefusedError(
            f"{settings.shown} and PyMongo are of too different ages; MongoDB must be 5.0 or newer, and PyMongo as new "
            f"as the server needs it"
        ) from error
    if hello["maxWireVersion"] < OLDEST_WIRE_VERSION:
        raise StorageRefusedError(f"{settings.shown} is older than MongoDB 5.0; upgrade the server")
    return hello


def _fits(client: Client) -> bool:
    try:
        client.topology_description.check_compatible()
    except DriverConfigurationError:
        return False
    return True


async def _version(database: Database) -> int | None:
    marker = await database[SCHEMA].find_one({"_id": _MARKER})
    if marker is None:
        return None
    version, compatible_with = cast("int", marker["version"]), cast("int", marker["compatible_with"])
    if compatible_with > VERSION:
        raise SchemaTooNewError(version, VERSION)
    return version
