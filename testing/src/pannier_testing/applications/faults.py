"""Faults on demand: a storage that fails when a test wants it to."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar, cast
from uuid import UUID

from pannier import Cancellation, JobRecord, JobStatus, UsageError
from pannier.errors import StorageUnavailableError
from pannier.plugins import Plugins
from pannier.storage import (
    Capabilities,
    Claim,
    Claimed,
    JobFilter,
    JobInspector,
    JobNotifier,
    JobPage,
    JobResultProvider,
    JobStorageProvider,
    Lease,
    Notice,
    Payload,
    Purged,
    Requeue,
    Settlement,
    StaleJobs,
    StorageUrl,
    StoredResult,
)

T = TypeVar("T")

Trouble = Callable[[], Awaitable[None]]
"""Runs before a verb, or after it and before its reply: waits, raises, or does nothing."""

VERBS: Final = frozenset(
    {
        "read_clock",
        "store_jobs",
        "claim_jobs",
        "renew_leases",
        "settle_jobs",
        "cancel_job",
        "get_job",
        "purge_stale_jobs",
        "store_progress",
        "get_job_result",
        "find_jobs",
        "count_jobs",
        "requeue_job",
    }
)
"""The verbs that trouble can be made with."""


class Fault:
    """Raises, the first *times* or for ever."""

    def __init__(self, times: int | None = None, error: Exception | None = None) -> None:
        """
        Raise *error*, by default StorageUnavailableError.

        Args:
            times: How often; None: until it is taken away.
            error: What to raise.
        """
        self._left = times
        self._error = error or StorageUnavailableError("the storage is down")

    async def __call__(self) -> None:
        """Raise, if it is still to."""
        if self._left is None:
            raise self._error
        if self._left > 0:
            self._left -= 1
            raise self._error


class Troubles(dict[str, Trouble]):
    """Trouble by the name of a verb: set to make it, delete to end it."""

    def __setitem__(self, verb: str, trouble: Trouble) -> None:
        """
        Make *trouble* with each call of *verb*.

        Raises:
            UsageError: There is no such verb, so nothing would ever happen.
        """
        if verb not in VERBS:
            raise UsageError(f"a storage has no verb {verb!r} (verbs: {', '.join(sorted(VERBS))})")
        super().__setitem__(verb, trouble)


class FaultyStorage:
    """
    A memory storage that can be told to fail: `JobQueues(storage)`, or `jobs.on_storage(storage)`.

    Attributes:
        before: What happens before a verb; an error raised there means that nothing was done. `storage.before[
            "store_jobs"] = Fault(times=1)`.
        after: What happens after it and before its reply; an error raised there is a lost reply.
        calls: How often each verb was called.
    """

    def __init__(self, url: str = "memory://") -> None:
        """Stand before a memory storage: a private one, or the one that *url* names."""
        self._inner = cast("_Storage", Plugins.installed().create_storage(StorageUrl(url)))
        self.before = Troubles()
        self.after = Troubles()
        self.calls: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        """Those of the memory storage."""
        return self._inner.capabilities

    async def open(self) -> None:
        """Open the storage behind."""
        await self._inner.open()

    async def close(self) -> None:
        """Close the storage behind."""
        await self._inner.close()

    async def read_clock(self) -> datetime | None:
        """Do as `JobStorageProvider.read_clock`, and the rest likewise."""
        return await self.troubled("read_clock", self._inner.read_clock)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store."""
        return await self.troubled("store_jobs", lambda: self._inner.store_jobs(jobs))

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim."""
        return await self.troubled("claim_jobs", lambda: self._inner.claim_jobs(claim))

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Renew."""
        return await self.troubled(
            "renew_leases", lambda: self._inner.renew_leases(leases, now=now, lease_for=lease_for)
        )

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle."""
        return await self.troubled("settle_jobs", lambda: self._inner.settle_jobs(settlements, now=now))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Cancel."""
        return await self.troubled("cancel_job", lambda: self._inner.cancel_job(tracking_id, now=now))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up."""
        return await self.troubled("get_job", lambda: self._inner.get_job(tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Purge."""
        return await self.troubled("purge_stale_jobs", lambda: self._inner.purge_stale_jobs(stale))

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep progress."""
        return await self.troubled("store_progress", lambda: self._inner.store_progress(lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Look a result up."""
        return await self.troubled("get_job_result", lambda: self._inner.get_job_result(tracking_id))

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List."""
        return await self.troubled("find_jobs", lambda: self._inner.find_jobs(wanted, cursor=cursor, limit=limit))

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count."""
        return await self.troubled("count_jobs", lambda: self._inner.count_jobs(wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Requeue."""
        return await self.troubled(
            "requeue_job", lambda: self._inner.requeue_job(tracking_id, now=now, expire_on=expire_on)
        )

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Listen."""
        return self._inner.listen(queue_ids)

    async def troubled(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make *call*, which is what *verb* does, with the trouble that there is with it."""
        self.calls[verb] += 1
        await self.before.get(verb, _nothing)()
        answer = await call()
        await self.after.get(verb, _nothing)()
        return answer


class _Storage(JobStorageProvider, JobResultProvider, JobInspector, JobNotifier, Protocol):
    """What the memory storage is."""


async def _nothing() -> None:
    """No trouble."""
