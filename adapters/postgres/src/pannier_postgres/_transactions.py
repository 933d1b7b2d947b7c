"""The caller's own transaction: which connection it runs on."""

from typing import TYPE_CHECKING, Protocol, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pannier.errors import UsageError
from pannier_postgres._connection import AnyConnection


class RawConnection(Protocol):
    """What SQLAlchemy's pool hands out."""

    @property
    def driver_connection(self) -> object:
        """The connection of the driver."""
        ...


class SqlAlchemyConnection(Protocol):
    """SQLAlchemy's `AsyncConnection`, as far as it is needed here: SQLAlchemy itself is not."""

    async def get_raw_connection(self) -> RawConnection:
        """Return what the pool has handed out."""
        ...

    async def exec_driver_sql(self, statement: str) -> object:
        """Run *statement*."""
        ...


if TYPE_CHECKING:
    Transaction: TypeAlias = AnyConnection | SqlAlchemyConnection
else:
    Transaction = object


async def driver_connection(transaction: Transaction) -> AnyConnection:
    """
    Return the connection of asyncpg that *transaction* is open on.

    Raises:
        TypeError: It is no connection that can have one.
        UsageError: It is closed, or no transaction is open: what is written would stand at once, whatever becomes of
            the caller's work.
    """
    connection: object = transaction
    if not isinstance(transaction, asyncpg.Connection | PoolConnectionProxy):
        if not hasattr(transaction, "get_raw_connection"):
            raise TypeError(
                f"transaction must be a connection of asyncpg, or SQLAlchemy's AsyncConnection on asyncpg "
                f"(of a session: await session.connection()), not {type(transaction).__name__}"
            )
        await transaction.exec_driver_sql("SELECT 1")  # SQLAlchemy begins with the first statement
        connection = (await transaction.get_raw_connection()).driver_connection
    if not isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        raise TypeError(f"the engine must use asyncpg (postgresql+asyncpg://), not {type(connection).__module__}")
    if connection.is_closed():
        raise UsageError("the connection is closed; begin a transaction on an open one")
    if not connection.is_in_transaction():
        raise UsageError("the connection has no open transaction; begin one, and write your own changes in it, too")
    return connection
