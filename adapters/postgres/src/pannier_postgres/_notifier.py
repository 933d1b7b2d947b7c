"""The notifier: one listening connection a storage, which mends itself."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from pannier.backoff import Backoff
from pannier.notices import Notice, NoticeKind
from pannier.subscription import Subscription
from pannier_postgres._connection import Connection, connect, disconnect
from pannier_postgres._errors import DRIVER_ERRORS, translated
from pannier_postgres.settings import Settings

logger = logging.getLogger("pannier.postgres")


class Notifier:
    """
    Listens to the channel while anybody subscribes.

    A lost connection is opened anew, and so is one that has not answered for a timeout: a peer that vanished sends no
    goodbye. Then everybody is told MISSED.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._subscriptions: set[Subscription] = set()
        self._entering = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """
        Subscribe; what happens from now on arrives.

        Raises:
            StorageError: The server is not there, or refuses.
        """
        subscription = Subscription(queue_ids)
        self._subscriptions.add(subscription)
        try:
            await self._start()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                await self.close()

    async def close(self) -> None:
        """Stop listening, also where this is cancelled. Whoever listens from now on has a connection of his own."""
        task, self._task = self._task, None
        connection, self._connection = self._connection, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        finally:
            if connection is not None:
                await disconnect(connection)

    async def _start(self) -> None:
        async with self._entering:
            if self._task is not None:
                return
            try:
                async with asyncio.timeout(self._seconds):
                    self._connection = await self._subscribe()
            except DRIVER_ERRORS as error:
                raise translated(error, self._settings.shown) from error
            self._task = asyncio.create_task(self._run(self._connection))

    async def _subscribe(self) -> Connection:
        connection = await connect(self._settings)
        try:
            await connection.add_listener(self._settings.channel, self._receive)
        except BaseException:
            await disconnect(connection)
            raise
        return connection

    async def _run(self, connection: Connection) -> None:
        while True:
            await self._watch(connection)
            await self._hang_up()
            self._connection = connection = await self._resubscribe()
            for subscription in self._subscriptions:
                subscription.put_missed()

    async def _hang_up(self) -> None:
        """Close the connection. Not in a `finally` of the task, which may be cancelled before its first step."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await disconnect(connection)

    async def _watch(self, connection: Connection) -> None:
        """Return when *connection* is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await lost.wait()
                return
            try:
                async with asyncio.timeout(self._seconds):
                    await connection.execute("SELECT 1")
            except DRIVER_ERRORS:
                return

    async def _resubscribe(self) -> Connection:
        backoff = Backoff(self._settings.timeout, random.Random())
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._subscribe()
            except DRIVER_ERRORS as error:
                logger.warning("still not listening, trying again: %s", translated(error, self._settings.shown))
            await backoff.pause()

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for notice in read_notices(str(payload)):
            for subscription in self._subscriptions:
                subscription.put(notice)


def read_notices(payload: str) -> list[Notice]:
    """Return what the announcement *payload*, "kind:ids:queue", says; nothing where it is none of ours."""
    kind, _, rest = payload.partition(":")
    ids, _, queue_id = rest.partition(":")
    try:
        if not ids:
            return [Notice(NoticeKind(kind), queue_id)]
        return [Notice(NoticeKind(kind), queue_id, UUID(tracking_id)) for tracking_id in ids.split(",")]
    except ValueError:
        return []
