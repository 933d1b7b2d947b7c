"""
The memory storage: the contract in its most readable form.

Each verb is one step under the store's lock, with no await inside: atomic, and never half done when it is cancelled.
Long work before or after that step is cut up.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar, final
from uuid import UUID

from pannier.checks import require, require_positive
from pannier.claims import Claim, Claimed
from pannier.errors import StorageClosedError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import utc
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities, check_new_jobs
from pannier_memory import _ending, _reading
from pannier_memory._claiming import Claiming
from pannier_memory._copying import copy_job, copy_payload, copy_result, copy_settlement
from pannier_memory._notifier import Listener
from pannier_memory._portions import PORTION, in_portions
from pannier_memory._store import Store

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(durable=False, shared=False, atomic_batches=True)


@final
class MemoryStorage:
    """Jobs in the memory of this process: for tests, for development, and to read."""

    def __init__(self, *, take: Callable[[], Store], give_back: Callable[[Store], None]) -> None:
        """
        Make an instance.

        Args:
            take: Gives the store when the instance is opened.
            give_back: Gets it back when the instance is closed.
        """
        self._take = take
        self._give_back = give_back
        self._taken: Store | None = None
        self._pid = 0

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def open(self) -> None:
        if self._taken is None:
            self._taken, self._pid = self._take(), os.getpid()

    async def close(self) -> None:
        store, self._taken = self._taken, None
        if store is None or self._pid != os.getpid():  # what a forked child has is a copy
            return
        with store.lock:
            store.notifier.remove_all_of(self)
        self._give_back(store)

    async def read_clock(self) -> datetime | None:
        self._opened()
        return None

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        store = self._opened()
        given = tuple(jobs)
        check_new_jobs(given)
        new = list(map(copy_job, given[:PORTION]))
        async for portion in in_portions(given[PORTION:]):
            new += map(copy_job, portion)
        with store.lock:
            standing = [store.add(job) for job in new]
            store.notifier.queued(new, by=self)
        return standing

    async def claim_jobs(self, claim: Claim) -> Claimed:
        store = self._opened()
        require(claim, Claim, "claim")
        claiming = Claiming(store, claim)
        with store.lock:
            claiming.run()
            store.notifier.changed(claiming.expired, by=self)
        return Claimed(jobs=tuple(map(copy_job, claiming.leased)), next_due=claiming.next_due)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        store = self._opened()
        given = _all(leases, Lease, "leases")
        now = utc(now, "now")
        require_positive(lease_for, "lease_for")
        with store.lock:
            return frozenset([lease for lease in given if not store.renew(lease, now=now, lease_for=lease_for)])

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        store = self._opened()
        given = list(map(copy_settlement, _all(settlements, Settlement, "settlements")))
        now = utc(now, "now")
        refused: list[Lease] = []
        settled: list[JobRecord] = []
        with store.lock:
            for settlement in given:
                job = store.settle(settlement, now=now)
                if job is None:
                    refused.append(settlement.lease)
                else:
                    settled.append(job)
            store.notifier.changed(settled, by=self)
        return frozenset(refused)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        store = self._opened()
        require(tracking_id, UUID, "tracking_id")
        now = utc(now, "now")
        with store.lock:
            answer, cancelled = store.cancel(tracking_id, now=now)
            if cancelled is not None:
                store.notifier.cancelled(cancelled, by=self)
        return answer

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        job = self._look_up(tracking_id)
        return None if job is None else copy_job(job)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        store = self._opened()
        require(stale, StaleJobs, "stale")
        deleted = await _in_steps(stale.limit, lambda limit: self._delete_over(store, stale, limit))
        expired = await _in_steps(stale.limit, lambda limit: self._mark_expired(store, stale, limit))
        return Purged(expired, deleted)

    # The add-on "results".

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        store = self._opened()
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        kept = copy_payload(progress)
        with store.lock:
            return store.report(lease, kept)

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        job = self._look_up(tracking_id)
        return None if job is None else copy_result(job)

    # The add-on "inspect".

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        return await _reading.find_jobs(self._all_jobs(), wanted, cursor=cursor, limit=limit)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        return await _reading.count_jobs(self._all_jobs(), wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        store = self._opened()
        require(tracking_id, UUID, "tracking_id")
        now = utc(now, "now")
        expire_on = None if expire_on is None else utc(expire_on, "expire_on")
        with store.lock:
            answer, requeued = store.requeue(tracking_id, now=now, expire_on=expire_on)
            if requeued is not None:
                store.notifier.queued([requeued], by=self)
        return answer

    # The add-on "notify".

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        store = self._opened()
        require(queue_ids, frozenset, "queue_ids")
        listener = Listener(queue_ids, self)
        with store.lock:
            store.notifier.add(listener)
        try:
            yield listener
        finally:
            with store.lock:
                store.notifier.remove(listener)

    def _opened(self) -> Store:
        """
        Return the store.

        Raises:
            StorageClosedError: This instance is not open, or a parent process has opened it.
        """
        if self._taken is None:
            raise StorageClosedError("this memory storage is not open; await its open() first")
        if self._pid != os.getpid():
            raise StorageClosedError("this memory storage was opened by the parent process; open another one here")
        return self._taken

    def _look_up(self, tracking_id: UUID) -> JobRecord | None:
        store = self._opened()
        require(tracking_id, UUID, "tracking_id")
        with store.lock:
            return store.jobs.get(tracking_id.int)

    def _all_jobs(self) -> Sequence[JobRecord]:
        """Return all jobs as they are now; a record never changes, it is replaced."""
        store = self._opened()
        with store.lock:
            return tuple(store.jobs.values())

    def _delete_over(self, store: Store, stale: StaleJobs, limit: int) -> int:
        with store.lock:
            return _ending.delete_over(store, stale, limit)

    def _mark_expired(self, store: Store, stale: StaleJobs, limit: int) -> int:
        with store.lock:
            marked = _ending.mark_expired(store, stale, limit)
            store.notifier.changed(marked, by=self)
        return len(marked)


async def _in_steps(limit: int, step: Callable[[int], int]) -> int:
    """Do *limit* of something, or as many as there are, with a turn of the event loop between two portions."""
    done = 0
    while True:
        portion = min(limit - done, PORTION)
        done_now = step(portion)
        done += done_now
        if done_now < portion or done == limit:
            return done
        await asyncio.sleep(0)


def _all(items: Iterable[T], kind: type[T], name: str) -> tuple[T, ...]:
    """Return *items*, each of which is of one *kind*."""
    given = tuple(items)
    if not {kind}.issuperset(map(type, given)):
        for item in given:
            require(item, kind, name)
    return given
