"""
The storage: each verb checks its arguments and runs as one transaction, in a thread of the storage's own.

LMDB lets in one writer at a time, among all threads and processes, and waits for the disk at each commit. The thread
does that waiting, so that the event loop never does.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import lmdb
from pannier.storage import (
    Cancellation,
    Capabilities,
    Claim,
    Claimed,
    JobFilter,
    JobPage,
    JobRecord,
    JobStatus,
    Lease,
    Payload,
    Purged,
    Requeue,
    Settlement,
    StaleJobs,
    StorageClosedError,
    StorageError,
    StoredResult,
    check_new_jobs,
    require,
    transitions,
    utc,
)

from pannier_lmdb import changes, claims, inspection, purging
from pannier_lmdb.environments import Environments
from pannier_lmdb.errors import translated
from pannier_lmdb.jobs import Jobs

T = TypeVar("T")


class LmdbStorage:
    """Jobs in LMDB."""

    def __init__(self, path: Path, environments: Environments) -> None:
        self._path = path
        self._environments = environments
        self._environment: lmdb.Environment | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    @property
    def capabilities(self) -> Capabilities:
        """State what types can't say."""
        return Capabilities(durable=True, shared=True, atomic_batches=True, single_writer=True)

    async def open(self) -> None:
        """Open the file, or make it."""
        if self._process != os.getpid():
            raise StorageClosedError("this storage was made before this process was forked: make storages afterwards")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pannier-lmdb")
        try:
            await self._in_thread(self._borrow)
        except StorageError:
            await self.close()
            raise

    async def close(self) -> None:
        """Give the file and the thread back, after what the thread has still to do."""
        thread, self._thread = self._thread, None
        if thread is None or self._process != os.getpid():
            return
        last = thread.submit(self._give_back)
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(last))

    async def read_clock(self) -> datetime | None:
        """Return None: a file has no clock."""
        self._check_open()
        return None

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs; what stands already stands."""
        check_new_jobs(jobs)
        return await self._write(partial(changes.store_jobs, new=tuple(jobs)))

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        require(claim, Claim, "claim")
        return await self._write(partial(claims.claim_jobs, claim=claim))

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases; return those that are lost."""
        for lease in leases:
            require(lease, Lease, "leases")
        transitions.lease_end(utc(now, "now"), lease_for)
        renew = partial(changes.renew_leases, leases=tuple(leases), now=utc(now, "now"), lease_for=lease_for)
        return await self._write(renew)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes under their fences; return the leases that were refused."""
        for settlement in settlements:
            require(settlement, Settlement, "settlements")
        return await self._write(partial(changes.settle_jobs, settlements=tuple(settlements), now=utc(now, "now")))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        require(tracking_id, UUID, "tracking_id")
        return await self._write(partial(changes.cancel_job, tracking_id=tracking_id, now=utc(now, "now")))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job, or None."""
        require(tracking_id, UUID, "tracking_id")
        return await self._read(lambda jobs: jobs.get_whole(tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Mark what has expired, delete what was kept long enough; a bounded step of each."""
        require(stale, StaleJobs, "stale")
        return await self._write(partial(purging.purge_stale_jobs, stale=stale))

    # The add-on "results".

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep progress, if the lease stands."""
        require(lease, Lease, "lease")
        require(progress, Payload, "progress")
        return await self._write(partial(changes.store_progress, lease=lease, progress=progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return what a job has come to, without reading its command."""
        require(tracking_id, UUID, "tracking_id")
        job = await self._read(lambda jobs: jobs.get(tracking_id))
        if job is None:
            return None
        return StoredResult(status=job.status, progress=job.progress, result=job.result, errors=job.errors)

    # The add-on "inspect".

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List jobs that match, a page at a time."""
        require(wanted, JobFilter, "wanted")
        require(limit, int, "limit")
        if limit < 1:
            raise ValueError("limit: at least 1")
        after = inspection.read_cursor(cursor)
        return await self._read(partial(inspection.find_jobs, wanted=wanted, after=after, limit=limit))

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status."""
        require(wanted, JobFilter, "wanted")
        return await self._read(partial(inspection.count_jobs, wanted=wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again, under a new fence."""
        require(tracking_id, UUID, "tracking_id")
        now = utc(now, "now")
        expire_on = None if expire_on is None else utc(expire_on, "expire_on")
        transitions.check_requeue(now=now, expire_on=expire_on)
        return await self._write(partial(changes.requeue_job, tracking_id=tracking_id, now=now, expire_on=expire_on))

    async def _write(self, work: Callable[[Jobs], T]) -> T:
        """Run *work* in a transaction, committed at its end, or rolled back where it raises."""

        def transact() -> T:
            with self._opened().begin(write=True) as transaction:
                return work(Jobs(transaction))

        return await self._in_thread(transact)

    async def _read(self, work: Callable[[Jobs], T]) -> T:
        """Run *work* on one snapshot, which no writer changes."""

        def look() -> T:
            with self._opened().begin() as transaction:
                return work(Jobs(transaction))

        return await self._in_thread(look)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """
        Run *work* in the storage's thread, behind the calls that wait for it already.

        Where the caller is cancelled meanwhile, work that has begun goes on to its end: it commits, or it does not. The
        calls behind it wait for that, as they do for any other.
        """

        def run() -> T:
            with translated():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._check_open(), run)

    def _check_open(self) -> ThreadPoolExecutor:
        if self._thread is None:
            raise StorageClosedError("this storage is not open; await its open() first")
        if self._process != os.getpid():
            raise StorageClosedError("this storage was opened before this process was forked: open storages afterwards")
        return self._thread

    def _borrow(self) -> None:
        if self._environment is None:
            self._environment = self._environments.borrow(self._path)

    def _give_back(self) -> None:
        if self._environment is not None:
            self._environment = None
            self._environments.give_back(self._path)

    def _opened(self) -> lmdb.Environment:
        if self._environment is None:
            raise StorageClosedError("this storage is not open; await its open() first")
        return self._environment
