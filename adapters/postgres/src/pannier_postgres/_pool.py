"""
The pool: a few connections, opened when they are needed, closed when they are in doubt.

asyncpg has a pool of its own. It asks the server to reset a session each time that it is given back, one more round
trip a call; nothing here changes a session, so there is nothing to reset.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from pannier_postgres._connection import Connection, connect, disconnect, transaction, transaction_settings
from pannier_postgres._errors import DRIVER_ERRORS, LOST, translated
from pannier_postgres.settings import Pooler, Settings

T = TypeVar("T")

Work: TypeAlias = Callable[[Connection], Awaitable[T]]
"""What is to be done with a connection. It leaves no transaction open."""


class Pool:
    """The connections of one storage, and the rule that no call takes longer than its timeout."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._slots = asyncio.Semaphore(settings.connections)
        self._idle: list[Connection] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._prologue = transaction_settings(settings) if settings.pooler is Pooler.TRANSACTION else None

    async def run(self, work: Work[T]) -> T:
        """
        Do *work* with a connection.

        Cancelled or out of time, it gives the connection up and lets the server know; what the statement came to is
        then unknown.

        Raises:
            StorageError, ValueError: In place of the driver's error.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._run(work)
        except DRIVER_ERRORS as error:
            if isinstance(error, LOST):
                self._give_up_idle()  # they lead to the same place
            raise translated(error, self._settings.shown) from error

    async def close(self) -> None:
        """Wait for the calls in progress, at most as long as they may take, and close all connections."""
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(self._settings.connections):
                    await self._slots.acquire()
        except TimeoutError:
            pass
        self._give_up_idle()
        while self._closing:
            await asyncio.wait(self._closing)
        await asyncio.sleep(0)  # the loop closes a terminated connection's socket in its next round

    async def _run(self, work: Work[T]) -> T:
        async with self._slots:
            connection = await self._take()
            try:
                done = await (
                    work(connection) if self._prologue is None else self._run_in_transaction(connection, work)
                )
            except Exception as error:
                self._give_back(connection, is_sound=not isinstance(error, LOST))
                raise
            except BaseException:
                self._give_back(connection, is_sound=False)
                raise
            self._give_back(connection, is_sound=True)
            return done

    async def _run_in_transaction(self, connection: Connection, work: Work[T]) -> T:
        """Set for one transaction what a session of one's own would keep."""
        async with transaction(connection):
            await connection.execute(self._prologue or "")
            return await work(connection)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await connect(self._settings)

    def _give_back(self, connection: Connection, *, is_sound: bool) -> None:
        if is_sound and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            self._give_up(connection)

    def _give_up_idle(self) -> None:
        while self._idle:
            self._give_up(self._idle.pop())

    def _give_up(self, connection: Connection) -> None:
        """Close *connection* without making anybody wait. Closing first sends the cancel request that may be due."""
        task = asyncio.create_task(disconnect(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
