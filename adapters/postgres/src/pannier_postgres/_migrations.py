"""
Migrations: files in migrations/, each applied once, under an advisory lock.

A role that may only read and write rows can open a storage whose schema is current: nothing is created then.
"""

import asyncio
from importlib.resources import files
from typing import Final

from pannier.errors import SchemaTooNewError, StorageRefusedError
from pannier_postgres._connection import Connection, connect, disconnect, session_settings, transaction
from pannier_postgres._errors import DRIVER_ERRORS, translated
from pannier_postgres._statements import filled, quoted
from pannier_postgres.settings import Settings

KNOWN: Final = 2
"""The newest schema that this adapter knows."""

READABLE_FROM: Final = 1
"""The oldest schema whose adapter may work with ours. Adding columns leaves it; changing their meaning raises it."""

LEAST_SERVER: Final = 15
"""The oldest PostgreSQL that the tests are run on."""

MIGRATION_SECONDS: Final = 3600
"""How long a migration may take. One that builds an index over millions of jobs needs more than a call's timeout."""

_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"

_HAS_VERSIONS: Final = """
SELECT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname = 'schema_versions'
)
"""
"""
Not to_regclass() and its like: those answer from a cache of the session that waiting for an advisory lock does not
refresh. Who had looked before, and then waited for somebody else's migration, was told that there was nothing.
"""

_VERSION: Final = """
SELECT coalesce(max(version), 0) AS version, coalesce(max(readable_from), 0) AS readable_from
FROM {schema}.schema_versions
"""

_APPLIED: Final = "INSERT INTO {schema}.schema_versions (version, readable_from, has_made_schema) VALUES ($1, $2, $3)"

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {schema}.schema_versions (
    version integer PRIMARY KEY,
    readable_from integer NOT NULL,
    has_made_schema boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

_IS_EMPTY: Final = """
SELECT NOT EXISTS (
    SELECT FROM pg_depend JOIN pg_namespace ON pg_namespace.oid = refobjid
    WHERE refclassid = 'pg_namespace'::regclass AND nspname = $1 AND deptype = 'n'
)
"""


async def prepare(settings: Settings) -> None:
    """
    Bring the schema up to `KNOWN`. Any number of processes may do so at once.

    Raises:
        SchemaTooNewError: A newer adapter made this store, and says that ours can't work with it. Nothing was changed.
        StorageError: The server is not there, too old, or refuses.
    """
    seconds = settings.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            connection = await connect(settings)
        try:
            async with asyncio.timeout(seconds):
                _check_server(connection, settings)
                async with transaction(connection):  # a pooler lends one session for as long as it is open
                    is_current = await _version(connection, settings) >= KNOWN
            if not is_current:
                async with asyncio.timeout(MIGRATION_SECONDS), transaction(connection):
                    await _migrate(connection, settings)
        finally:
            await disconnect(connection)
    except DRIVER_ERRORS as error:
        raise translated(error, settings.shown) from error


async def destroy(settings: Settings) -> None:
    """
    Drop what `prepare` made: the tables, and the schema if it made that too and nothing else is in it (R95).

    Raises:
        StorageError: The server is not there, or refuses.
    """
    try:
        async with asyncio.timeout(settings.timeout.total_seconds()):
            connection = await connect(settings)
            try:
                async with transaction(connection):
                    await _destroy(connection, settings)
            finally:
                await disconnect(connection)
    except DRIVER_ERRORS as error:
        raise translated(error, settings.shown) from error


def _check_server(connection: Connection, settings: Settings) -> None:
    found = connection.get_server_version().major
    if found < LEAST_SERVER:
        raise StorageRefusedError(
            f"{settings.shown} is PostgreSQL {found}, pannier needs {LEAST_SERVER} or newer; upgrade the server"
        )


async def _version(connection: Connection, settings: Settings) -> int:
    """Return the version of the schema, 0 where there is none."""
    if not await connection.fetchval(_HAS_VERSIONS, settings.schema):
        return 0
    [row] = await connection.fetch(_sql(_VERSION, settings))
    version: int = row["version"]
    if version > KNOWN and row["readable_from"] > KNOWN:
        raise SchemaTooNewError(version, KNOWN)
    return version


async def _migrate(connection: Connection, settings: Settings) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = '{MIGRATION_SECONDS}s'")
    await connection.execute(_LOCK, settings.channel)
    version = await _version(connection, settings)  # somebody else may have been here first
    if version >= KNOWN:
        return
    # Whoever waits to alter a table makes all others wait behind him: not for longer than a call may take.
    await connection.execute(f"SET LOCAL lock_timeout = '{session_settings(settings)['lock_timeout']}'")
    has_made_schema = await _make_schema(connection, settings)
    await connection.execute(_sql(_TABLE, settings))
    for path in sorted(files("pannier_postgres").joinpath("migrations").iterdir(), key=lambda path: path.name):
        number = int(path.name.partition("_")[0])
        if number > version:
            await connection.execute(_sql(path.read_text("utf-8"), settings))
            await connection.execute(_sql(_APPLIED, settings), number, READABLE_FROM, has_made_schema)


async def _make_schema(connection: Connection, settings: Settings) -> bool:
    """Make the schema unless it is there: IF NOT EXISTS would ask for the right to make one all the same."""
    if await connection.fetchval(_HAS_SCHEMA, settings.schema):
        return False
    await connection.execute(_sql("CREATE SCHEMA {schema}", settings))
    return True


async def _destroy(connection: Connection, settings: Settings) -> None:
    if not await connection.fetchval(_HAS_VERSIONS, settings.schema):
        return
    has_made_schema = await connection.fetchval(
        _sql("SELECT bool_or(has_made_schema) FROM {schema}.schema_versions", settings)
    )
    await connection.execute(_sql("DROP TABLE IF EXISTS {schema}.jobs, {schema}.schema_versions", settings))
    if has_made_schema and await connection.fetchval(_IS_EMPTY, settings.schema):
        await connection.execute(_sql("DROP SCHEMA {schema}", settings))


def _sql(text: str, settings: Settings) -> str:
    return filled(text, {"schema": quoted(settings.schema)})
