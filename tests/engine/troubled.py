"""A storage in trouble: the real one, with faults, delays and observers in front of its verbs."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from pannier.claims import Claim, Claimed, Unreadable
from pannier.errors import StorageUnavailableError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.notices import Notice
from pannier.plugins import Plugins
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities
from pannier.urls import StorageUrl
from pannier_memory.provider import MemoryStorage

T = TypeVar("T")

Trouble = Callable[[], Awaitable[None]]
"""Runs before a verb, or after it and before its reply: waits, raises, or does nothing."""


class Fault:
    """Raises for the first calls, then never again."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self._left = times
        self._error = error or StorageUnavailableError("the storage is down")

    async def __call__(self) -> None:
        if self._left > 0:
            self._left -= 1
            raise self._error


class TroubledStorage:
    """
    Passes every verb on to a memory storage.

    Attributes:
        before: By the name of a verb, what happens before it: an error raised there means that nothing was done.
        after: What happens after it and before its reply: an error raised there is a lost reply.
        calls: How often each verb was called.
        claims: What was asked for, in order.
        settlements: What was handed over to be settled, in order; also by calls that failed.
        latest_settlements: What the latest call handed over.
        unreadable: Why what is claimed can't be read; None: it can.
        passes_over: Whether claims take nothing, because somebody else holds all that is due.
        clock: Tells the storage's own clock; None: it has none.
        pushes: Whether it offers the add-on "notify".
    """

    def __init__(self, url: str = "memory://", *, clock: Callable[[], datetime] | None = None) -> None:
        inner = Plugins.installed().create_storage(StorageUrl(url))
        assert isinstance(inner, MemoryStorage)
        self._inner = inner
        self.before: dict[str, Trouble] = {}
        self.after: dict[str, Trouble] = {}
        self.calls: Counter[str] = Counter()
        self.claims: list[Claim] = []
        self.settlements: list[Settlement] = []
        self.latest_settlements: Sequence[Settlement] = ()
        self.unreadable: str | None = None
        self.passes_over = False
        self.clock = clock
        self.pushes = True

    @property
    def capabilities(self) -> Capabilities:
        withheld = frozenset[str]() if self.pushes else frozenset({"notify"})
        return Capabilities(durable=False, shared=False, atomic_batches=True, withheld=withheld)

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def read_clock(self) -> datetime | None:
        return await self._with_trouble("read_clock", self._read_clock)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        return await self._with_trouble("store_jobs", lambda: self._inner.store_jobs(jobs))

    async def claim_jobs(self, claim: Claim) -> Claimed:
        self.claims.append(claim)
        if self.passes_over:
            return Claimed(jobs=(), next_due=claim.now)
        claimed = await self._with_trouble("claim_jobs", lambda: self._inner.claim_jobs(claim))
        if self.unreadable is None:
            return claimed
        unreadable = tuple(Unreadable(job.lease, job.queue_id, self.unreadable) for job in claimed.jobs)
        return Claimed(jobs=(), unreadable=unreadable, next_due=claimed.next_due)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        return await self._with_trouble(
            "renew_leases", lambda: self._inner.renew_leases(leases, now=now, lease_for=lease_for)
        )

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        self.settlements.extend(settlements)
        self.latest_settlements = settlements
        return await self._with_trouble("settle_jobs", lambda: self._inner.settle_jobs(settlements, now=now))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        return await self._with_trouble("cancel_job", lambda: self._inner.cancel_job(tracking_id, now=now))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        return await self._with_trouble("get_job", lambda: self._inner.get_job(tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        return await self._with_trouble("purge_stale_jobs", lambda: self._inner.purge_stale_jobs(stale))

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        return await self._with_trouble("store_progress", lambda: self._inner.store_progress(lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        return await self._with_trouble("get_job_result", lambda: self._inner.get_job_result(tracking_id))

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        return await self._inner.find_jobs(wanted, cursor=cursor, limit=limit)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        return await self._inner.count_jobs(wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        return await self._inner.requeue_job(tracking_id, now=now, expire_on=expire_on)

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        return self._inner.listen(queue_ids)

    async def _read_clock(self) -> datetime | None:
        return None if self.clock is None else self.clock()

    async def _with_trouble(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[verb] += 1
        await self.before.get(verb, _nothing)()
        answer = await call()
        await self.after.get(verb, _nothing)()
        return answer


async def _nothing() -> None:
    """No trouble."""
