"""Connections: the client, the collections, and how their reads and writes are acknowledged."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from attrs import frozen
from pymongo import AsyncMongoClient, ReadPreference, UpdateOne, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import split_options

from pannier_mongo._documents import CODEC, JobDocument, QueueDocument, SettlingDocument
from pannier_mongo.settings import Settings

T = TypeVar("T")
Item = TypeVar("Item")

Client: TypeAlias = AsyncMongoClient[Mapping[str, object]]
Session: TypeAlias = AsyncClientSession
Work: TypeAlias = Callable[[Session], Coroutine[object, object, T]]
"""What runs in a transaction."""

JOBS: Final = "pannier_jobs"
QUEUES: Final = "pannier_queues"
SETTLING: Final = "pannier_settling"
SCHEMA: Final = "pannier_schema"

ACKNOWLEDGED: Final = WriteConcern(w="majority", j=True)
"""An answer means: on the disks of a majority, so that no crash and no failover takes it back."""

COMMITTED: Final = ReadConcern("majority")
"""What is read is what no failover takes back."""

LATEST: Final = ReadConcern("local")
"""For a claim, which looks for candidates: its guarded update decides, and is acknowledged by a majority."""

_SNAPSHOT: Final = ReadConcern("snapshot")

TRANSIENT: Final = "TransientTransactionError"
"""The driver's label of a transaction that was given up for another one."""

CONNECTING: Final = 100
"""
How many connections may be made at a time: as many as the driver's pool holds.

Its own limit is 2. Ten calls whose connections were all cut then found their standalone server not for ten seconds: a
call that waits for its turn to connect is told that the pool is paused, and pauses it again for the others.
"""


@frozen
class Store:
    """
    The collections of one namespace, through one client.

    Attributes:
        client: The driver's client.
        jobs: The jobs.
        latest: The same, read as they are now: what is found may yet be taken back by a failover.
        queues: Each queue with the priorities in use.
        settling: Jobs that callers were settling in their own transactions lately.
        has_transactions: Whether the server is no standalone one.
    """

    client: Client
    jobs: AsyncCollection[JobDocument]
    latest: AsyncCollection[JobDocument]
    queues: AsyncCollection[QueueDocument]
    settling: AsyncCollection[SettlingDocument]
    has_transactions: bool

    async def without_waiting(
        self,
        items: Sequence[Item],
        id_of: Callable[[Item], UUID],
        work: Callable[[Sequence[Item], Session | None], Coroutine[object, object, T]],
    ) -> tuple[list[T], list[Item]]:
        """
        Run *work* on *items*, each of which is about a running job, without waiting for settlements that are open.

        A write waits for the transaction that holds its document, unless it stands in a transaction of its own: that
        one fails at once. But a transaction of a process that was killed holds its documents for a minute. So only a
        job that a caller is settling in his own transaction, as `announce_settling` has said, is tried in one, for
        itself.

        Returns:
            The answers of *work*, and the items passed over.
        """
        open_ids = await self._being_settled([id_of(item) for item in items])
        free = [item for item in items if id_of(item) not in open_ids]
        answers = [await work(free, None)] if free else []
        held: list[Item] = []
        for item in items:
            if id_of(item) in open_ids:
                try:
                    answers.append(await self._attempt(partial(work, [item])))
                except PyMongoError as error:
                    if not is_conflict(error):
                        raise
                    held.append(item)
        return answers, held

    async def announce_settling(self, tracking_ids: Sequence[UUID]) -> None:
        """Say that these jobs are about to be settled in a caller's transaction. The server forgets it by and by."""
        said = {"$currentDate": {"at": True}}
        if tracking_ids:
            await self.settling.bulk_write(
                [UpdateOne({"_id": tracking_id}, said, upsert=True) for tracking_id in tracking_ids], ordered=False
            )

    async def _being_settled(self, tracking_ids: Sequence[UUID]) -> set[UUID]:
        if not self.has_transactions or not tracking_ids:
            return set()
        found = self.settling.find({"_id": {"$in": list(tracking_ids)}}, {"_id": 1})
        return {document["_id"] async for document in found}

    async def _attempt(self, work: Work[T]) -> T:
        async with (
            self.client.start_session() as session,
            await session.start_transaction(_SNAPSHOT, ACKNOWLEDGED, ReadPreference.PRIMARY),
        ):
            return await work(session)


def is_conflict(error: PyMongoError) -> bool:
    """Whether *error* says that another transaction was quicker, and not that the server is gone."""
    return error.has_error_label(TRANSIENT) and isinstance(error, OperationFailure)


def connect(settings: Settings) -> Client:
    """
    Make a client; it connects when it is first used.

    Raises:
        PyMongoError, ValueError, TypeError, OSError: The URL can't be used.
    """
    options = urlsplit(settings.uri).query
    if options:
        split_options(options, validate=True, warn=False)  # the client itself only warns
    given = {name.lower() for name, _ in parse_qsl(options, keep_blank_values=True)}
    milliseconds = max(1, int(settings.timeout.total_seconds() * 1000))
    ours: dict[str, Any] = {
        "appname": "pannier",
        "connecttimeoutms": milliseconds,
        "serverselectiontimeoutms": milliseconds,
        "maxconnecting": CONNECTING,
    }
    # What is passed beside the URL wins over it.
    return AsyncMongoClient(settings.uri, **{name: value for name, value in ours.items() if name not in given})


def database_of(client: Client, settings: Settings) -> AsyncDatabase[Mapping[str, object]]:
    """Return the namespace, with pannier's own concerns whatever the client's are."""
    return client.get_database(
        settings.database,
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        write_concern=ACKNOWLEDGED,
        read_concern=COMMITTED,
    )


def store_of(client: Client, settings: Settings, *, has_transactions: bool) -> Store:
    """Return the collections of the namespace."""
    database = database_of(client, settings)
    jobs = cast("AsyncCollection[JobDocument]", database[JOBS])
    return Store(
        client,
        jobs,
        jobs.with_options(read_concern=LATEST),
        cast("AsyncCollection[QueueDocument]", database[QUEUES]),
        cast("AsyncCollection[SettlingDocument]", database[SETTLING]),
        has_transactions,
    )


async def read_clock(client: Client) -> datetime:
    """Return the server's clock."""
    at: datetime = (await client.admin.command("hello"))["localTime"]
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


async def yield_between(position: int, size: int) -> None:
    """Let others run after each *size* steps of a long loop."""
    if position % size == size - 1:
        await asyncio.sleep(0)
