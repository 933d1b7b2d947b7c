"""Storages that hand every verb on to a real one: a saboteur overrides the verb that it spoils."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import (
    Capabilities,
    JobStorageProvider,
    TransactionalStorage,
)
from pannier.urls import StorageUrl

if TYPE_CHECKING:
    from pannier_testing.reference.loopback import WholeStorage


class Relay:
    """
    A storage that is another one.

    Attributes:
        inner: The real one.
        url: Its URL.
    """

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        self.inner = cast("WholeStorage", inner)
        self.url = url

    @property
    def capabilities(self) -> Capabilities:
        """What it promises."""
        return self.inner.capabilities

    async def open(self) -> None:
        """Open it."""
        await self.inner.open()

    async def close(self) -> None:
        """Close it."""
        await self.inner.close()

    async def read_clock(self) -> datetime | None:
        """Read its clock."""
        return await self.inner.read_clock()

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs."""
        return await self.inner.store_jobs(jobs)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        return await self.inner.claim_jobs(claim)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases."""
        return await self.inner.renew_leases(leases, now=now, lease_for=lease_for)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes."""
        return await self.inner.settle_jobs(settlements, now=now)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job."""
        return await self.inner.cancel_job(tracking_id, now=now)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up."""
        return await self.inner.get_job(tracking_id)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Do one step of cleaning."""
        return await self.inner.purge_stale_jobs(stale)

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep progress under a lease."""
        return await self.inner.store_progress(lease, progress)

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Look a result up."""
        return await self.inner.get_job_result(tracking_id)

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List jobs."""
        return await self.inner.find_jobs(wanted, cursor=cursor, limit=limit)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count jobs."""
        return await self.inner.count_jobs(wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job pending again."""
        return await self.inner.requeue_job(tracking_id, now=now, expire_on=expire_on)

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Subscribe to queues."""
        return self.inner.listen(queue_ids)


class TransactionalRelay(Relay):
    """A storage that is another one with the add-on "transactions"."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self.inner_transactions = cast("TransactionalStorage[object]", inner)

    async def store_jobs_in(self, transaction: object, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs in the caller's transaction."""
        return await self.inner_transactions.store_jobs_in(transaction, jobs)

    async def settle_jobs_in(self, transaction: object, settlements: Sequence[Settlement], *, now: datetime) -> None:
        """Apply outcomes in the caller's transaction."""
        await self.inner_transactions.settle_jobs_in(transaction, settlements, now=now)
