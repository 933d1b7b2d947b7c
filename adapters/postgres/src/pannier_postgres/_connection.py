"""Connections: how a session is set up, and how its values travel."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import asyncpg

from pannier.restoring import restore_id
from pannier_postgres.settings import Pooler, Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    """A connection of asyncpg."""
    AnyConnection: TypeAlias = Connection | PoolConnectionProxy[asyncpg.Record]
    """A connection of asyncpg, or what its pool lends."""
else:
    Connection = AnyConnection = asyncpg.Connection

_PLANS: Final = {
    "plan_cache_mode": "force_generic_plan",  # planning a claim takes longer than running it
    "jit": "off",  # a disabled plan node looks expensive enough to be compiled
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""
Every statement here has one right plan: nested loops over indexes, in their order. The planner does not know: a table
that was empty when it was last looked at and holds 200,000 jobs now costs 30 to 130 ms a claim without these, 1 to 3
with them.
"""

CLOSE_SECONDS: Final = 1.0
"""How long a connection may take to say goodbye."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL counts microseconds from."""

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


async def connect(settings: Settings) -> Connection:
    """
    Open a connection.

    Raises:
        Exception: One of `_errors.DRIVER_ERRORS`.
    """
    is_pooled = settings.pooler is Pooler.TRANSACTION
    try:
        connection: Connection = await asyncpg.connect(
            settings.dsn,
            timeout=settings.timeout.total_seconds(),
            # Behind a pooler the next statement may meet another session, which knows no statement of this one.
            statement_cache_size=0 if is_pooled else 100,
            max_cached_statement_lifetime=0,
            server_settings={
                "application_name": settings.application_name,
                **({} if is_pooled else session_settings(settings)),
            },
        )
    except ssl.SSLError:  # some of which are ValueErrors as well
        raise
    except ValueError as error:  # its text may hold a part of the password
        raise asyncpg.exceptions.ClientConfigurationError(type(error).__name__) from None
    try:
        await _set_codecs(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _set_codecs(connection: Connection) -> None:
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=_from_instant, decoder=_to_instant
    )
    await connection.set_type_codec("uuid", schema="pg_catalog", format="binary", encoder=_from_id, decoder=_to_id)


async def disconnect(connection: Connection) -> None:
    """Close *connection*. What is still asked of the server is cancelled first; who does not answer is hung up on."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except Exception:  # it is over with this connection, whatever the driver makes of it
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise


@asynccontextmanager
async def transaction(connection: AnyConnection) -> AsyncIterator[None]:
    """
    Run the block in a transaction, or in the one that is open already.

    Differs from the driver's own: when it is cancelled it does not ask a server that may be gone to roll back. The pool
    gives the connection up, which comes to the same.
    """
    if connection.is_in_transaction():
        yield
        return
    await connection.execute("BEGIN")
    try:
        yield
    except Exception:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


def session_settings(settings: Settings) -> dict[str, str]:
    """Return what a session is to be set to. The server gives up a little before the client does, and says why."""
    milliseconds = max(1, int(settings.timeout.total_seconds() * 800))
    return {
        **_PLANS,
        "default_transaction_isolation": "read committed",  # a claim looks past what has changed since it began
        "statement_timeout": str(milliseconds),
        "lock_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": str(2 * milliseconds),  # of a process that vanished with its locks
    }


def transaction_settings(settings: Settings) -> str:
    """Return the statements that set the same for one transaction, where a pooler lends no more than that."""
    return ";".join(f"SET LOCAL {name} = '{value}'" for name, value in session_settings(settings).items())


def _from_instant(at: datetime) -> tuple[int]:
    """0.7 us in an array, where the driver's own codec takes 1.7."""
    passed = at - _EPOCH
    return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds,)


def _to_instant(value: tuple[int]) -> datetime:
    try:
        return _EPOCH + timedelta(0, 0, value[0])
    except OverflowError:  # infinity, or a year that no datetime has: another hand's, and no reason to read nothing
        return _LAST if value[0] > 0 else _FIRST


def _from_id(tracking_id: UUID) -> bytes:
    return tracking_id.bytes


def _to_id(value: bytes) -> UUID:
    """The driver's own type is not what callers expect."""
    return restore_id(int.from_bytes(value))
