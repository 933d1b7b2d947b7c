"""The notifier: a change stream for each listener, which mends itself."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import pymongo
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.errors import PyMongoError

from pannier.backoff import Backoff
from pannier.notices import Notice, NoticeKind
from pannier.records import JobStatus
from pannier.subscription import Subscription
from pannier_mongo import _queries
from pannier_mongo._connection import Store
from pannier_mongo._documents import JobDocument
from pannier_mongo._errors import translated
from pannier_mongo.settings import Settings

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger("pannier.mongo")

AWAIT_SECONDS: Final = 1.0
"""How long the server waits for a change before it says that there is none. A peer that vanished says nothing."""

Stream: TypeAlias = AsyncCommandCursor[JobDocument]

_KINDS: Final[Mapping[JobStatus, NoticeKind]] = {
    JobStatus.PENDING: NoticeKind.QUEUED,
    JobStatus.CANCELLED: NoticeKind.CANCELLED,
    JobStatus.SUCCEEDED: NoticeKind.FINISHED,
    JobStatus.FAILED: NoticeKind.FINISHED,
    JobStatus.EXPIRED: NoticeKind.FINISHED,
}


class Notifier:
    """Opens a change stream for each listener, and a new one where it breaks; then the listener is told MISSED."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """
        Subscribe; what happens from now on arrives.

        Raises:
            StorageError: The server is not there, or refuses.
        """
        subscription = Subscription(queue_ids)
        try:
            stream = await self._watch(queue_ids)
        except PyMongoError as error:
            raise translated(error, self._settings.shown) from error
        task = asyncio.create_task(self._run(stream, subscription), name="pannier mongo notifier")
        self._tasks.add(task)
        try:
            yield subscription
        finally:
            self._tasks.discard(task)
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _watch(self, queue_ids: frozenset[str]) -> Stream:
        with pymongo.timeout(self._seconds):
            # Not by watch(), which begins anew by itself and tells nobody: after a reconnect the listener is to look
            # for itself, since an event may be too old to resume from.
            return await self._store.jobs.aggregate(
                [{"$changeStream": {"fullDocument": "updateLookup"}}, *_queries.changes(queue_ids)],
                maxAwaitTimeMS=int(AWAIT_SECONDS * 1000),
            )

    async def _run(self, stream: Stream, subscription: Subscription) -> None:
        while True:
            try:
                await self._pass_on(stream, subscription)
            except (PyMongoError, TimeoutError) as error:
                logger.info("the change stream broke (%s), opening another", type(error).__name__)
            finally:
                await _close(stream)
            stream = await self._watch_again(subscription)
            subscription.put_missed()

    async def _pass_on(self, stream: Stream, subscription: Subscription) -> None:
        """Return when *stream* has ended."""
        while stream.alive:
            async with asyncio.timeout(AWAIT_SECONDS + self._seconds):
                change = await stream.try_next()
            if change is not None:
                notice = to_notice(change)
                if notice is None:
                    subscription.put_missed()
                else:
                    subscription.put(notice)

    async def _watch_again(self, subscription: Subscription) -> Stream:
        backoff = Backoff(self._settings.timeout, random.Random())
        while True:
            try:
                return await self._watch(subscription.queue_ids)
            except PyMongoError as error:
                logger.warning("still not listening, trying again: %s", translated(error, self._settings.shown))
            await backoff.pause()


def to_notice(change: Mapping[str, object]) -> Notice | None:
    """Return what *change* says; None where the job was deleted before the server could look it up."""
    document = cast("JobDocument | None", change.get("fullDocument"))
    if document is None:
        return None
    updated = cast("Mapping[str, Mapping[str, str]]", change.get("updateDescription") or {})
    status = updated.get("updatedFields", {}).get("status", JobStatus.PENDING)
    tracking_id = cast("Mapping[str, UUID]", change["documentKey"])["_id"]
    return Notice(_KINDS[JobStatus(status)], document["queue_id"], tracking_id)


async def _close(stream: Stream) -> None:
    try:
        async with asyncio.timeout(AWAIT_SECONDS):
            await stream.close()
    except (PyMongoError, TimeoutError):
        pass  # the server is gone, and its cursor with it
