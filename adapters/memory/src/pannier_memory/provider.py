"""
The memory storage: the contract in its most readable form.

Each verb is one step under the store's lock, with no await inside: atomic, and never half done when it is cancelled.
"""

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pannier.errors import StorageClosedError
from pannier.instants import utc
from pannier.records import (
    Cancellation,
    Claim,
    Claimed,
    JobFilter,
    JobPage,
    JobRecord,
    JobStatus,
    Lease,
    Notice,
    Payload,
    Purged,
    Requeue,
    Settlement,
    StaleJobs,
    StoredResult,
)
from pannier.storage import Capabilities, check_new_jobs
from pannier_memory import inspecting, purging
from pannier_memory.claiming import claim_jobs
from pannier_memory.payloads import freeze, freeze_job, freeze_settlement, thaw, thaw_job
from pannier_memory.store import Store

CAPABILITIES: Final = Capabilities(durable=False, shared=False, atomic_batches=True)


class MemoryStorage:
    """Jobs in this process's memory: for tests, for development, and to read."""

    def __init__(self, *, acquire: Callable[[], Store], release: Callable[[], None]) -> None:
        self._acquire = acquire
        self._release = release
        self._store: Store | None = None
        self._pid = 0

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises."""
        return CAPABILITIES

    async def open(self) -> None:
        """Attach to the store."""
        if self._store is None:
            self._store, self._pid = self._acquire(), os.getpid()

    async def close(self) -> None:
        """Detach from the store; the last instance takes it along."""
        if self._store is not None:
            self._store = None
            self._release()

    async def read_clock(self) -> datetime | None:
        """Return None: memory has no clock of its own."""
        return None

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs; a tracking id or key that is known stands."""
        check_new_jobs(jobs)
        frozen = [freeze_job(job) for job in jobs]
        with self._open_store as store:
            standing = [store.add(job) for job in frozen]
            store.listeners.queued(jobs)
        return standing

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        with self._open_store as store:
            claimed = claim_jobs(store, claim)
        return Claimed(jobs=tuple(map(thaw_job, claimed.jobs)), next_due=claimed.next_due)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases; return those that no longer stand."""
        now = utc(now, "now")
        with self._open_store as store:
            return frozenset(lease for lease in list(leases) if not store.renew(lease, now=now, lease_for=lease_for))

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes under their fences; return the refused leases."""
        now = utc(now, "now")
        frozen = [freeze_settlement(settlement) for settlement in settlements]
        with self._open_store as store:
            refused = frozenset(settlement.lease for settlement in frozen if not store.settle(settlement, now=now))
            store.listeners.settled(frozen, store.jobs)
        return refused

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        now = utc(now, "now")
        with self._open_store as store:
            return store.cancel(tracking_id, now=now)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job, or None."""
        with self._open_store as store:
            job = store.jobs.get(tracking_id.int)
        return None if job is None else thaw_job(job)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Mark what has expired, delete what has been kept long enough."""
        with self._open_store as store:
            deleted = purging.delete_over(store, stale)  # first: what is marked in this step is not deleted in it
            return Purged(expired=purging.mark_expired(store, stale), deleted=deleted)

    # -- results -------------------------------------------------------------------------------------------------------

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress* if *lease* stands."""
        frozen = freeze(progress, lease.tracking_id)
        with self._open_store as store:
            return store.report(lease, frozen)

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return status, progress, result and errors, or None."""
        with self._open_store as store:
            job = store.jobs.get(tracking_id.int)
        if job is None:
            return None
        return StoredResult(
            status=job.status,
            progress=None if job.progress is None else thaw(job.progress),
            result=None if job.result is None else thaw(job.result),
            errors=job.errors,
        )

    # -- inspect -------------------------------------------------------------------------------------------------------

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List matching jobs in the order of their tracking ids."""
        with self._open_store as store:
            page = inspecting.find(store, wanted, cursor=cursor, limit=limit)
        return JobPage(tuple(map(thaw_job, page.jobs)), page.cursor)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status."""
        with self._open_store as store:
            return inspecting.count(store, wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again."""
        now = utc(now, "now")
        with self._open_store as store:
            return store.requeue(
                tracking_id, now=now, expire_on=None if expire_on is None else utc(expire_on, "expire_on")
            )

    # -- notify --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe to what happens in *queue_ids*."""
        listeners = self._open_store.listeners
        listener = listeners.add(queue_ids)
        try:
            yield listener
        finally:
            listeners.remove(listener)

    @property
    def _open_store(self) -> Store:
        """
        The store, to be entered for its lock.

        Raises:
            StorageClosedError: This instance is not open, or was opened by the parent of this forked process.
        """
        if self._store is None:
            raise StorageClosedError("the memory storage is not open; await open() first")
        if self._pid != os.getpid():
            raise StorageClosedError("the memory storage was opened by the process that this one was forked from")
        return self._store
