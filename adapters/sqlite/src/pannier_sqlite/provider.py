"""The storage: jobs in one SQLite file, written by one thread and read by another."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar, final
from uuid import UUID

from attrs import field, frozen

from pannier.claims import Claim, Claimed
from pannier.errors import LeaseLostError, StorageClosedError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import utc
from pannier.notices import Notice
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import Capabilities
from pannier_sqlite import _claiming, _ending, _reading, _rows, _settling, _storing
from pannier_sqlite._connection import connect, until_free
from pannier_sqlite._errors import translated, translating
from pannier_sqlite._files import OpenFiles
from pannier_sqlite._migrations import migrate
from pannier_sqlite._notifier import listening
from pannier_sqlite._thread import ConnectionThread, Kind, Work, run_reads
from pannier_sqlite._transactions import LentConnections, step_in
from pannier_sqlite._writer import run_calls
from pannier_sqlite.settings import Settings

Found = TypeVar("Found")
T = TypeVar("T")

CAPABILITIES: Final = Capabilities(
    durable=True, shared=True, atomic_batches=True, max_payload=_rows.MAX_PAYLOAD, single_writer=True
)


MILLISECOND: Final = timedelta(milliseconds=1)


def _as_found(found: T) -> T:
    return found


@final
@frozen(eq=False)
class _Opened:
    """What there is while the storage is open."""

    writer: ConnectionThread
    reader: ConnectionThread
    pid: int = field(factory=os.getpid)
    lent: LentConnections = field(factory=LentConnections)


@final
class SqliteStorage:
    """
    Jobs in one file, shared by every process of one machine that opens it.

    Every verb binds its arguments, runs its statements and maps their answer in a thread; here it only asks for that.
    """

    def __init__(self, settings: Settings, files: OpenFiles) -> None:
        self._settings = settings
        self._files = files
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def open(self) -> None:
        async with self._opening:
            if self._opened is not None and self._opened.pid == os.getpid():
                return
            self._opened = await self._open()

    async def close(self) -> None:
        async with self._opening:
            opened, self._opened = self._opened, None
        if opened is None or opened.pid != os.getpid():  # a forked child has no such threads
            return
        opened.reader.dismiss()
        opened.writer.dismiss()
        await opened.reader.join()
        await opened.writer.join()

    async def read_clock(self) -> datetime | None:
        return None  # the processes that share a file share their machine's clock

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        jobs = tuple(jobs)
        return await self._write(lambda: _storing.store_jobs(jobs))

    async def claim_jobs(self, claim: Claim) -> Claimed:
        return await self._call(
            self._writer(),
            Kind.WRITE,
            lambda: _claiming.claim_jobs(claim),
            lambda taken: _claiming.to_claimed(taken, claim),
        )

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        leases = tuple(leases)
        return await self._write(lambda: _settling.renew_leases(leases, utc(now, "now"), lease_for))

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        settlements = tuple(settlements)
        return await self._write(lambda: _settling.settle_jobs(settlements, utc(now, "now")))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        return await self._write(lambda: _ending.cancel_job(tracking_id, utc(now, "now")))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        return await self._read(lambda: _reading.get_job(tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        return await self._write(lambda: _ending.purge_stale_jobs(stale))

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        return await self._write(lambda: _settling.store_progress(lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        return await self._read(lambda: _reading.get_job_result(tracking_id))

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        return await self._read(lambda: _reading.find_jobs(wanted, cursor, limit))

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        return await self._read(lambda: _reading.count_jobs(wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        return await self._write(
            lambda: _ending.requeue_job(
                tracking_id, utc(now, "now"), None if expire_on is None else utc(expire_on, "expire_on")
            )
        )

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        self._check_open()
        return listening(self._settings, self._look)

    async def store_jobs_in(self, transaction: sqlite3.Connection, jobs: Sequence[JobRecord]) -> list[UUID]:
        opened, store = self._check_open(), _storing.store_jobs(tuple(jobs))
        with translating(self._settings.path), step_in(transaction, self._settings.path) as connection:
            standing = store(connection)
        opened.lent.note(transaction)
        return standing

    async def settle_jobs_in(
        self, transaction: sqlite3.Connection, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        opened, settle = self._check_open(), _settling.settle_jobs(tuple(settlements), utc(now, "now"))
        with translating(self._settings.path), step_in(transaction, self._settings.path) as connection:
            refused = settle(connection)
            if refused:
                raise LeaseLostError(tuple(sorted(lease.tracking_id for lease in refused)))
        opened.lent.note(transaction)

    async def _open(self) -> _Opened:
        """Start the threads. If that fails or is cancelled, what has been started ends by itself."""
        timeout = self._settings.timeout_seconds
        writer = ConnectionThread(self._writing, run_calls, name="pannier sqlite writer", timeout_seconds=timeout)
        reader = ConnectionThread(self._reading, run_reads, name="pannier sqlite reader", timeout_seconds=timeout)
        try:
            with translating(self._settings.path):
                await writer.start()
                await reader.start()
        except BaseException:
            for thread in (writer, reader):
                thread.dismiss()
            raise
        return _Opened(writer, reader)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        identity = self._files.enter(self._settings.path)
        try:
            with closing(connect(self._settings)) as connection:
                until_free(lambda: migrate(connection), deadline=time.monotonic() + self._settings.timeout_seconds)
                yield connection
        finally:
            self._files.leave(identity)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(connect(self._settings)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA busy_timeout = {self._settings.timeout // MILLISECOND}")
            connection.text_factory = _rows.decode
            yield connection

    def _writer(self) -> ConnectionThread:
        opened = self._check_open()
        opened.lent.check()
        return opened.writer

    async def _write(self, bind: Callable[[], Work[T]]) -> T:
        return await self._call(self._writer(), Kind.WRITE, bind, _as_found)

    async def _read(self, bind: Callable[[], Work[T]]) -> T:
        return await self._call(self._check_open().reader, Kind.READ, bind, _as_found)

    async def _look(self, work: Work[T]) -> T:
        return await self._call(self._check_open().writer, Kind.READ, lambda: work, _as_found)

    async def _call(
        self, thread: ConnectionThread, kind: Kind, bind: Callable[[], Work[Found]], finish: Callable[[Found], T]
    ) -> T:
        try:
            return await thread.call(kind, bind, finish)
        except sqlite3.Error as error:
            raise translated(error, self._settings.path) from error

    def _check_open(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise StorageClosedError(f"{self._settings.path} is not open; await open() first")
        if opened.pid != os.getpid():
            raise StorageClosedError(
                f"{self._settings.path} was opened by process {opened.pid}, which this one was forked from; open "
                f"storages after forking, or start processes by spawning them"
            )
        return opened
