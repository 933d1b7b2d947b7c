"""The PostgreSQL storage: one table in a schema of its own, SKIP LOCKED, LISTEN and NOTIFY."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from attrs import evolve

from pannier import transitions
from pannier.checks import require, require_int, require_positive
from pannier.claims import Claim, Claimed
from pannier.coalescing import Coalescer
from pannier.errors import LeaseLostError, NotSupportedError, StorageClosedError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import utc
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities, check_new_jobs
from pannier_postgres import _claiming, _ending, _migrations, _reading, _settling, _storing
from pannier_postgres._connection import AnyConnection, Connection
from pannier_postgres._errors import DRIVER_ERRORS, busy, translated
from pannier_postgres._notifier import Notifier
from pannier_postgres._pool import Pool, Work
from pannier_postgres._rows import PAYLOAD_BYTES
from pannier_postgres._statements import statements_for
from pannier_postgres._transactions import Transaction, driver_connection
from pannier_postgres.settings import Notify, Settings

T = TypeVar("T")

SHARED_ROWS: Final = 100
"""Calls with more jobs than this go alone: they gain nothing from company, and would make it wait."""


class _Open:
    """What an open storage has."""

    def __init__(self, settings: Settings, sql: Mapping[str, str]) -> None:
        self.pool = Pool(settings)
        self.notifier = Notifier(settings)
        self.coalescer = Coalescer(
            lambda rows: self.pool.run(lambda connection: _storing.insert_unkeyed(connection, sql, rows)),
            seconds=settings.timeout.total_seconds(),
            share=_storing.share,
        )
        self.keyed_slots = asyncio.Semaphore(settings.connections // 2)  # the rest never waits for a stranger's key
        self.settling: list[Sequence[Settlement]] = []

    async def close(self) -> None:
        """Let the calls in progress end, and close all connections."""
        await self.coalescer.close()
        await self.notifier.close()
        await self.pool.close()


class PostgresStorage:
    """Jobs in one table of a PostgreSQL database, shared by every process that can reach it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.timeout.total_seconds()
        self._sql = statements_for(settings)
        self._opened: _Open | None = None
        self._pid = 0
        self._capabilities = Capabilities(
            durable=True,
            shared=True,
            atomic_batches=True,
            max_payload=PAYLOAD_BYTES,
            withheld=frozenset() if settings.notify is Notify.ON else frozenset({"notify"}),
        )

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises."""
        return self._capabilities

    async def open(self) -> None:
        """Connect, and create or migrate the schema where needed."""
        if self._opened is None or self._pid != os.getpid():
            await _migrations.prepare(self._settings)
            self._opened, self._pid = _Open(self._settings, self._sql), os.getpid()

    async def close(self) -> None:
        """Close all connections, once the calls in progress have ended."""
        opened, self._opened = self._opened, None
        if opened is not None and self._pid == os.getpid():  # else the connections are the parent's
            await opened.close()

    async def read_clock(self) -> datetime | None:
        """Return the server's clock: workers on many machines agree by it."""

        async def read(connection: Connection) -> datetime:
            at: datetime = await connection.fetchval("SELECT clock_timestamp()")
            return at

        return await self._run(read)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs; a tracking id or key that is known stands."""
        check_new_jobs(jobs)
        opened = self._checked
        rows = await _storing.encode(jobs)
        if any(row.key is not None for row in rows):
            async with self._in_time(), opened.keyed_slots:
                return await self._run(lambda connection: _storing.insert_keyed(connection, self._sql, rows))
        if len(rows) > SHARED_ROWS:
            await self._run(lambda connection: _storing.insert_unkeyed(connection, self._sql, rows))
        elif rows:
            try:
                await opened.coalescer.add(rows)
            except TimeoutError as error:
                raise translated(error, self._settings.shown) from error
        return [row.tracking_id for row in rows]

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        require(claim, Claim, "claim")
        _claiming.check_claim(claim)
        lease_end = transitions.lease_end(claim.now, claim.lease_for)
        settling = [settlement for settlements in self._checked.settling for settlement in settlements]
        rows = await self._run(
            lambda connection: _claiming.claim_jobs(
                connection,
                self._sql,
                claim,
                lease_end=lease_end,
                settling=[settlement.lease.tracking_id for settlement in settling],
            )
        )
        claimed = await _claiming.to_claimed(rows, claim, lease_end=lease_end)
        if any(map(_settling.gives_back, settling)):  # jobs that this claim has passed over
            return evolve(claimed, next_due=min(claim.now, claimed.next_due or claim.now))
        return claimed

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases; return those that no longer stand."""
        leases = _all(leases, Lease, "leases")
        require_positive(lease_for, "lease_for")
        end = transitions.lease_end(utc(now, "now"), lease_for)
        return await self._run(lambda connection: _settling.renew(connection, self._sql, leases, end))

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes under their fences; return the refused leases."""
        at = utc(now, "now")
        given = _all(settlements, Settlement, "settlements")
        settling = self._checked.settling
        settling.append(given)
        try:
            await _let_claims_go_first()
            batches = _settling.batches_of(given)
            return await self._run(lambda connection: _settling.settle(connection, self._sql, batches, at))
        finally:
            settling.remove(given)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        require(tracking_id, UUID, "tracking_id")
        at = utc(now, "now")
        return await self._run(lambda connection: _ending.cancel(connection, self._sql, tracking_id, at))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job, or None."""
        require(tracking_id, UUID, "tracking_id")
        return await self._run(lambda connection: _reading.get_job(connection, self._sql, tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Mark what has expired, delete what has been kept long enough."""
        require(stale, StaleJobs, "stale")
        return await self._run(lambda connection: _ending.purge(connection, self._sql, stale))

    # -- results -------------------------------------------------------------------------------------------------------

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress* if *lease* stands."""
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        return await self._run(lambda connection: _settling.store_progress(connection, self._sql, lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return status, progress, result and errors, or None."""
        require(tracking_id, UUID, "tracking_id")
        return await self._run(lambda connection: _reading.get_job_result(connection, self._sql, tracking_id))

    # -- inspect -------------------------------------------------------------------------------------------------------

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List matching jobs in the order of their tracking ids."""
        require(wanted, JobFilter, "wanted")
        require_int(limit, "limit", minimum=1)
        after = _reading.to_start(cursor)
        return await self._run(
            lambda connection: _reading.find_jobs(connection, self._sql, wanted, after=after, limit=limit)
        )

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status."""
        require(wanted, JobFilter, "wanted")
        return await self._run(lambda connection: _reading.count_jobs(connection, self._sql, wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again."""
        require(tracking_id, UUID, "tracking_id")
        at = utc(now, "now")
        expiry = None if expire_on is None else utc(expire_on, "expire_on")
        transitions.check_requeue(now=at, expire_on=expiry)
        return await self._run(
            lambda connection: _ending.requeue(connection, self._sql, tracking_id, now=at, expire_on=expiry)
        )

    # -- notify --------------------------------------------------------------------------------------------------------

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Subscribe to what happens in *queue_ids*."""
        if self._settings.notify is not Notify.ON:
            raise NotSupportedError(
                f"{self._settings.shown} does not listen: its URL says notify={self._settings.notify}"
            )
        return self._checked.notifier.listen(queue_ids)

    # -- transactions --------------------------------------------------------------------------------------------------

    async def store_jobs_in(self, transaction: Transaction, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs in the caller's own transaction on the same database."""
        check_new_jobs(jobs)
        rows = await _storing.encode(jobs)
        async with self._inside(transaction) as connection:
            return await _storing.insert_keyed(connection, self._sql, rows) if rows else []

    async def settle_jobs_in(
        self, transaction: Transaction, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        """Settle in the caller's own transaction on the same database; raises where a lease is lost."""
        at = utc(now, "now")
        batches = _settling.batches_of(_all(settlements, Settlement, "settlements"))
        async with self._inside(transaction) as connection:
            refused = await _settling.settle(connection, self._sql, batches, at)
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
        if self._opened is None:
            raise StorageClosedError(f"{self._settings.shown} is not open; await open() first")
        if self._pid != os.getpid():
            raise StorageClosedError(
                f"{self._settings.shown} was opened by the process that this one was forked from; open it here anew"
            )
        return self._opened

    async def _run(self, work: Work[T]) -> T:
        return await self._checked.pool.run(work)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Let the block take no longer than a call may, and translate the driver's errors."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except DRIVER_ERRORS as error:
            raise translated(error, self._settings.shown) from error

    @asynccontextmanager
    async def _inside(self, transaction: Transaction) -> AsyncIterator[AnyConnection]:
        """Give the connection of a caller's transaction, on which a call takes no longer than elsewhere."""
        try:
            async with asyncio.timeout(self._seconds):
                yield await driver_connection(transaction)
        except TimeoutError as error:  # no timeout of the server's own ends what waits for a lock: it is the caller's
            raise busy(self._settings.shown) from error
        except DRIVER_ERRORS as error:
            raise translated(error, self._settings.shown) from error


async def _let_claims_go_first() -> None:
    """
    Give the loop a turn before many settlements are written out.

    A worker that settles a batch claims the next one in the same turn of the loop. The server is at work on that claim
    while this process writes out what it settles: 5 us a job, which the worker would spend idle otherwise.
    """
    await asyncio.sleep(0)


def _all(values: Iterable[T], kind: type[T], name: str) -> tuple[T, ...]:
    """Return *values* as a tuple that the caller can't change; refuse what is none of *kind*."""
    copied = tuple(values)
    for value in copied:
        require(value, kind, name)
    return copied
