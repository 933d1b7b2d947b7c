"""The storage: jobs as documents of a MongoDB database, claimed by guarded updates."""

import os
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

import pymongo
from attrs import field, frozen
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from pannier import transitions
from pannier.checks import require, require_int, require_positive
from pannier.claims import Claim, Claimed
from pannier.coalescing import Coalescer
from pannier.errors import LeaseLostError, NotSupportedError, StorageClosedError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import round_down, round_up, utc
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities, check_new_jobs
from pannier_mongo import _claiming, _ending, _migrations, _reading, _settling, _storing, _transactions
from pannier_mongo._connection import Store, read_clock, store_of
from pannier_mongo._documents import PAYLOAD_BYTES, RESOLUTION, JobDocument
from pannier_mongo._errors import late, translated
from pannier_mongo._lines import Reaches
from pannier_mongo._notifier import Notifier
from pannier_mongo._storing import Lines
from pannier_mongo.settings import Settings

T = TypeVar("T")


SHARED: Final = 100
"""Calls with more jobs than this go alone: they gain nothing from company, and would make it wait."""

GOODBYE_SECONDS: Final = 0.5
"""
How long close() looks for the server to end its sessions there. Where it is gone, nobody hears of it, and close() would
wait for it for as long as a call may take; a server that is not told forgets them by itself.
"""


@frozen(eq=False)
class _Open:
    """What an open storage has."""

    store: Store
    notifier: Notifier
    coalescer: Coalescer[JobDocument]
    lines: Lines = field(factory=Lines)
    reaches: Reaches = field(factory=Reaches)
    pid: int = field(factory=os.getpid)


class MongoStorage:
    """Jobs in one database of a MongoDB server, shared by every process that can reach it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: _Open | None = None
        self._has_transactions = True

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises; a standalone server has neither transactions nor change streams."""
        return Capabilities(
            durable=True,
            shared=True,
            atomic_batches=False,
            time_resolution=RESOLUTION,
            max_payload=PAYLOAD_BYTES,
            withheld=frozenset() if self._has_transactions else frozenset({"notify", "transactions"}),
        )

    async def open(self) -> None:
        """Connect, and create or migrate the collections where needed."""
        if self._opened is not None and self._opened.pid == os.getpid():
            return
        client = _migrations.new_client(self._settings)
        try:
            with self._in_time():
                server = await _migrations.prepare(client, self._settings)
        except BaseException:
            await client.close()
            raise
        self._has_transactions = server.has_transactions
        store = store_of(client, self._settings, has_transactions=server.has_transactions)
        self._opened = _Open(store, Notifier(store, self._settings), self._coalescer(store))

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():  # else the connections are the parent's
            await opened.coalescer.close()
            await opened.notifier.close()
            with pymongo.timeout(min(GOODBYE_SECONDS, self._settings.timeout.total_seconds())):
                await opened.store.client.close()

    async def read_clock(self) -> datetime | None:
        """Return the server's clock: workers on many machines agree by it."""
        opened = self._checked
        with self._in_time():
            return await read_clock(opened.store.client)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs; a tracking id or key that is known stands."""
        check_new_jobs(jobs, time_resolution=RESOLUTION)
        opened = self._checked
        documents = await _storing.encode(jobs)
        if not documents:
            return []
        with self._in_time():
            await opened.lines.note(opened.store, documents)
            if len(documents) > SHARED or not all(map(_storing.is_shared, documents)):
                return await _storing.insert(opened.store, documents)
        try:
            await opened.coalescer.add(documents)
        except TimeoutError as error:
            raise late(self._settings.shown) from error
        return [document["_id"] for document in documents]

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        _claiming.check_claim(claim)
        opened = self._checked
        with self._in_time():
            return await _claiming.claim_jobs(opened.store, opened.reaches, claim)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases; return those that no longer stand."""
        leases = _all(leases, Lease, "leases")
        require_positive(lease_for, "lease_for")
        end = round_up(transitions.lease_end(utc(now, "now"), lease_for), RESOLUTION)
        opened = self._checked
        with self._in_time():
            return await _settling.renew(opened.store, leases, end)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes under their fences; return the refused leases."""
        at = _now(now)
        batches = _settling.batches_of(_all(settlements, Settlement, "settlements"), at)
        opened = self._checked
        with self._in_time():
            return await _settling.settle(opened.store, batches, at)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        require(tracking_id, UUID, "tracking_id")
        at, opened = _now(now), self._checked
        with self._in_time():
            return await _ending.cancel(opened.store, tracking_id, at)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job, or None."""
        require(tracking_id, UUID, "tracking_id")
        opened = self._checked
        with self._in_time():
            return await _reading.get_job(opened.store, tracking_id)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Mark what has expired, delete what has been kept long enough."""
        require(stale, StaleJobs, "stale")
        opened = self._checked
        with self._in_time():
            return await _ending.purge(opened.store, stale)

    # -- results -------------------------------------------------------------------------------------------------------

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress* if *lease* stands."""
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        opened = self._checked
        with self._in_time():
            return await _settling.store_progress(opened.store, lease, progress)

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return status, progress, result and errors, or None."""
        require(tracking_id, UUID, "tracking_id")
        opened = self._checked
        with self._in_time():
            return await _reading.get_job_result(opened.store, tracking_id)

    # -- inspect -------------------------------------------------------------------------------------------------------

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List matching jobs in the order of their tracking ids."""
        require(wanted, JobFilter, "wanted")
        require_int(limit, "limit", minimum=1)
        after, opened = _reading.to_start(cursor), self._checked
        with self._in_time():
            return await _reading.find_jobs(opened.store, wanted, after=after, limit=limit)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status."""
        require(wanted, JobFilter, "wanted")
        opened = self._checked
        with self._in_time():
            return await _reading.count_jobs(opened.store, wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again."""
        require(tracking_id, UUID, "tracking_id")
        starts = round_up(utc(now, "now"), RESOLUTION)
        expiry = None if expire_on is None else round_down(utc(expire_on, "expire_on"), RESOLUTION)
        transitions.check_requeue(now=starts, expire_on=expiry)
        opened = self._checked
        with self._in_time():
            return await _ending.requeue(opened.store, tracking_id, now=starts, expire_on=expiry)

    # -- notify --------------------------------------------------------------------------------------------------------

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Subscribe to what happens in *queue_ids*."""
        opened = self._checked
        if not self._has_transactions:
            raise NotSupportedError(f"{self._settings.shown} is a standalone server, which has no change streams")
        return opened.notifier.listen(queue_ids)

    # -- transactions --------------------------------------------------------------------------------------------------

    async def store_jobs_in(self, transaction: AsyncClientSession, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs in the caller's own transaction on the same server."""
        check_new_jobs(jobs, time_resolution=RESOLUTION)
        opened = self._checked
        store = _transactions.store_in(transaction, opened.store, self._settings)
        documents = await _storing.encode(jobs)
        with self._in_time():
            # Outside the transaction: it may stay when that is rolled back, and other transactions would wait for it.
            await opened.lines.note(opened.store, documents)
            return await _transactions.insert(store, documents, transaction)

    async def settle_jobs_in(
        self, transaction: AsyncClientSession, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        """Settle in the caller's own transaction on the same server; raises where a lease is lost."""
        at = _now(now)
        batches = _settling.batches_of(_all(settlements, Settlement, "settlements"), at)
        opened = self._checked
        store = _transactions.store_in(transaction, opened.store, self._settings)
        with self._in_time():
            await opened.store.announce_settling([lease.tracking_id for batch in batches for lease in batch.given])
            refused = await _settling.settle(store, batches, at, transaction)
        if refused:
            raise LeaseLostError(tuple(sorted(lease.tracking_id for lease in refused)))

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _checked(self) -> _Open:
        """
        What is open.

        Raises:
            StorageClosedError: Nothing is, or it belongs to the process that this one was forked from.
        """
        opened = self._opened
        if opened is None:
            raise StorageClosedError(f"{self._settings.shown} is not open; await open() first")
        if opened.pid != os.getpid():
            raise StorageClosedError(
                f"{self._settings.shown} was opened by the process that this one was forked from; open it here anew"
            )
        return opened

    def _coalescer(self, store: Store) -> Coalescer[JobDocument]:
        async def flush(documents: Sequence[JobDocument]) -> None:
            with self._in_time():
                await _storing.insert(store, documents)

        seconds = self._settings.timeout.total_seconds()
        return Coalescer(flush, seconds=seconds, share=lambda _: 1 / _storing.CHUNK)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Let the block take no longer than a call may, and translate the driver's errors."""
        try:
            with pymongo.timeout(self._settings.timeout.total_seconds()):
                yield
        except PyMongoError as error:
            raise translated(error, self._settings.shown) from error


def _now(now: datetime) -> datetime:
    """Return *now* as this storage compares and keeps it."""
    return round_down(utc(now, "now"), RESOLUTION)


def _all(values: Iterable[T], kind: type[T], name: str) -> tuple[T, ...]:
    """Return *values* as a tuple that the caller can't change; refuse what is none of *kind*."""
    copied = tuple(values)
    for value in copied:
        require(value, kind, name)
    return copied
