"""
The model dressed as a storage in memory.

All instances that are opened on one name share a `Shelf`. Every verb is one synchronous call of the model under a lock,
so it is atomic between tasks and threads alike. Saboteurs override a method of the model, or a verb here.
"""

import asyncio
import copy
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from pannier.checks import require, require_int, require_positive
from pannier.claims import Claim, Claimed
from pannier.errors import StorageClosedError, UnstorableError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import utc
from pannier.notices import Notice, NoticeKind
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities, check_new_jobs
from pannier_testing.reference.model import Model

T = TypeVar("T")
CAPABILITIES = Capabilities(durable=False, shared=False, atomic_batches=True)


class Shelf:
    """What the instances opened on one name share."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.lock = threading.RLock()
        self.listeners: dict[int, tuple[frozenset[str], Callable[[Notice], None]]] = {}

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Lend the model to one caller at a time."""
        with self.lock:
            yield self.model

    def tell(self, notice: Notice) -> None:
        """Give *notice* to whoever listens to its queue."""
        with self.lock:
            told = [tell for queue_ids, tell in self.listeners.values() if notice.queue_id in queue_ids]
        for tell in told:
            tell(notice)


class ReferenceProvider:
    """A whole storage, add-ons "inspect", "notify" and "results" included."""

    def __init__(self, shelf: Shelf, capabilities: Capabilities = CAPABILITIES) -> None:
        self.shelf = shelf
        self._capabilities = capabilities
        self._opened_by: int | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises."""
        return self._capabilities

    async def open(self) -> None:
        """Make the instance usable."""
        self._opened_by = os.getpid()

    async def close(self) -> None:
        """Make it unusable; the shelf stays."""
        self._opened_by = None

    async def read_clock(self) -> datetime | None:
        """It has none."""
        self._check_open()
        return None

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs."""
        check_new_jobs(jobs, time_resolution=self._capabilities.time_resolution)
        kept = [_own(job, job.tracking_id) for job in jobs]
        standing = self._do(lambda model: model.store(kept))
        for queue_id in {job.queue_id for job in jobs}:
            self.shelf.tell(Notice(NoticeKind.QUEUED, queue_id))
        return standing

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        require(claim, Claim, "claim")
        claimed = self._do(lambda model: model.claim(claim))
        return Claimed(jobs=tuple(map(_own_job, claimed.jobs)), next_due=claimed.next_due)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases."""
        kept = every(Lease, leases, "leases")
        at = utc(now, "now")
        require_positive(lease_for, "lease_for")
        return self._do(lambda model: model.renew(kept, at, lease_for))

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes."""
        kept = [_own(each, each.lease.tracking_id) for each in every(Settlement, settlements, "settlements")]
        at = utc(now, "now")
        refused = self._do(lambda model: model.settle(kept, at))
        self._tell(NoticeKind.FINISHED, [s.lease.tracking_id for s in kept if s.lease not in refused])
        return refused

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job."""
        require(tracking_id, UUID, "tracking_id")
        at = utc(now, "now")
        answer = self._do(lambda model: model.cancel(tracking_id, at))
        self._tell(NoticeKind.CANCELLED, [tracking_id])
        return answer

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up."""
        require(tracking_id, UUID, "tracking_id")
        job = self._do(lambda model: model.get(tracking_id))
        return None if job is None else _own_job(job)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Do one step of cleaning."""
        require(stale, StaleJobs, "stale")
        return self._do(lambda model: model.purge(stale))

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep progress under a lease."""
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        kept = _own(progress, lease.tracking_id)
        return self._do(lambda model: model.report(lease, kept))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Look a result up."""
        require(tracking_id, UUID, "tracking_id")
        return copy.deepcopy(self._do(lambda model: model.result(tracking_id)))

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List jobs by tracking id; the cursor is the last id of the page before."""
        require(wanted, JobFilter, "wanted")
        require_int(limit, "limit", minimum=1)
        after = None if cursor is None else _read_cursor(cursor)
        found = [job for job in self._do(lambda model: model.find(wanted)) if after is None or job.tracking_id > after]
        page = tuple(map(_own_job, found[:limit]))
        return JobPage(page, str(page[-1].tracking_id) if len(found) > limit else None)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count jobs."""
        require(wanted, JobFilter, "wanted")
        return self._do(lambda model: model.count(wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job pending again."""
        require(tracking_id, UUID, "tracking_id")
        at = utc(now, "now")
        ends = None if expire_on is None else utc(expire_on, "expire_on")
        if ends is not None and ends <= at:
            raise ValueError(f"expire_on ({ends}) must lie after now ({at})")
        answer = self._do(lambda model: model.requeue(tracking_id, at, ends))
        self._tell(NoticeKind.QUEUED, [tracking_id])
        return answer

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe to queues."""
        self._check_open()
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Notice] = asyncio.Queue()
        number = id(arrived)
        self.shelf.listeners[number] = (
            queue_ids,
            lambda notice: _ignore(loop.call_soon_threadsafe(arrived.put_nowait, notice)),
        )
        try:
            yield _notices(arrived)
        finally:
            del self.shelf.listeners[number]

    def _check_open(self) -> None:
        if self._opened_by != os.getpid():
            raise StorageClosedError("this storage is not open in this process; await its open() first")

    def _do(self, act: Callable[[Model], T]) -> T:
        self._check_open()
        with self.shelf.use() as model:
            return act(model)

    def _tell(self, kind: NoticeKind, tracking_ids: Sequence[UUID]) -> None:
        for job in self._do(lambda model: [model.get(tracking_id) for tracking_id in tracking_ids]):
            if job is not None:
                self.shelf.tell(Notice(kind, job.queue_id, job.tracking_id))


def _ignore(_: object) -> None:
    """Drop a value where none is wanted."""


async def _notices(arrived: asyncio.Queue[Notice]) -> AsyncIterator[Notice]:
    while True:
        yield await arrived.get()


def every(kind: type[T], items: Iterable[T], name: str) -> list[T]:
    """Return *items*, each of which must be a *kind*."""
    listed = list(items)
    for item in listed:
        require(item, kind, name)
    return listed


def _own(value: T, tracking_id: UUID) -> T:
    """Copy *value*, which belongs to a job, so that nothing is shared with the caller."""
    try:
        return copy.deepcopy(value)
    except RecursionError as error:
        raise UnstorableError(tracking_id, "it is nested too deeply") from error


def _own_job(job: JobRecord) -> JobRecord:
    return _own(job, job.tracking_id)


def _read_cursor(cursor: str) -> UUID:
    require(cursor, str, "cursor")
    return UUID(cursor)
