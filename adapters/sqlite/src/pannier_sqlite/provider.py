"""The SQLite storage: one file, write-ahead logging, one writing thread and one reading thread an instance."""

import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from pannier.errors import LeaseLostError, StorageClosedError, UsageError
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
from pannier_sqlite import _claiming, _ending, _migrations, _reading, _settling, _storing
from pannier_sqlite._connection import connect
from pannier_sqlite._errors import translated, translating
from pannier_sqlite._notifier import listening
from pannier_sqlite._rows import check_text
from pannier_sqlite._thread import ConnectionThread, GroupCommit, Work, begin, run_each
from pannier_sqlite.settings import Settings

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(durable=True, shared=True, atomic_batches=True, single_writer=True)


class SqliteStorage:
    """Jobs in one SQLite file, shared by every process of a machine that opens it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer: ConnectionThread | None = None
        self._reader: ConnectionThread | None = None
        self._pid = 0

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises."""
        return CAPABILITIES

    async def open(self) -> None:
        """Open the file, creating or migrating it where needed."""
        if self._writer is not None and self._pid == os.getpid():
            return
        timeout = self._settings.timeout.total_seconds()
        writer = ConnectionThread(self._connect_writer, GroupCommit(timeout), name="pannier sqlite writer")
        reader = ConnectionThread(lambda: connect(self._settings), run_each, name="pannier sqlite reader")
        with translating(self._settings.path):
            await writer.start()
            try:
                await reader.start()
            except BaseException:
                await writer.stop()
                raise
        self._writer, self._reader, self._pid = writer, reader, os.getpid()

    async def close(self) -> None:
        """Close the file."""
        writer, reader, self._writer, self._reader = self._writer, self._reader, None, None
        if self._pid != os.getpid():  # the threads stayed behind in the parent
            return
        for thread in (reader, writer):
            if thread is not None:
                await thread.stop()

    async def read_clock(self) -> datetime | None:
        """Return None: the workers of a file share a machine and its clock."""
        return None

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs; a tracking id or key that is known stands."""
        check_new_jobs(jobs)
        jobs = tuple(jobs)
        return await self._write(lambda connection: _storing.store_jobs(connection, jobs))

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Lease due jobs."""
        check_text(claim.worker_id, "worker_id", None)
        for demand in claim.demands:
            for queue_id in demand.queue_ids:
                check_text(queue_id, "queue_id", None)
        convert = await self._write(lambda connection: _claiming.claim_jobs(connection, claim))
        return convert()

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Move the ends of leases; return those that no longer stand."""
        now, leases = utc(now, "now"), tuple(leases)
        return await self._write(lambda connection: _settling.renew_leases(connection, leases, now, lease_for))

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Apply outcomes under their fences; return the refused leases."""
        now, settlements = utc(now, "now"), tuple(settlements)
        return await self._write(lambda connection: _settling.settle_jobs(connection, settlements, now))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """End an unfinished job at once and for good."""
        now = utc(now, "now")
        return await self._write(lambda connection: _ending.cancel_job(connection, tracking_id, now))

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job, or None."""
        return await self._read(lambda connection: _reading.get_job(connection, tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Mark what has expired, delete what has been kept long enough."""
        return await self._write(lambda connection: _ending.purge_stale_jobs(connection, stale))

    # -- results -------------------------------------------------------------------------------------------------------

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep *progress* if *lease* stands."""
        return await self._write(lambda connection: _settling.store_progress(connection, lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return status, progress, result and errors, or None."""
        return await self._read(lambda connection: _reading.get_job_result(connection, tracking_id))

    # -- inspect -------------------------------------------------------------------------------------------------------

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """List matching jobs in the order in which they were stored."""
        return await self._read(lambda connection: _reading.find_jobs(connection, wanted, cursor, limit))

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status."""
        return await self._read(lambda connection: _reading.count_jobs(connection, wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Make a complete job that did not succeed PENDING again."""
        now = utc(now, "now")
        expiry = None if expire_on is None else utc(expire_on, "expire_on")
        return await self._write(lambda connection: _ending.requeue_job(connection, tracking_id, now, expiry))

    # -- notify --------------------------------------------------------------------------------------------------------

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Subscribe to commits of any process, as MISSED."""
        self._check_open()
        return listening(self._settings, lambda: connect(self._settings), queue_ids)

    # -- transactions --------------------------------------------------------------------------------------------------

    async def store_jobs_in(self, transaction: sqlite3.Connection, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store new jobs in the caller's own transaction on the same file. Never suspends."""
        check_new_jobs(jobs)
        self._check_transaction(transaction)
        with translating(self._settings.path):
            return _storing.store_jobs(transaction, jobs)

    async def settle_jobs_in(
        self, transaction: sqlite3.Connection, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        """Settle in the caller's own transaction on the same file; raises where a lease is lost. Never suspends."""
        self._check_transaction(transaction)
        with translating(self._settings.path):
            refused = _settling.settle_jobs(transaction, settlements, utc(now, "now"))
        if refused:
            raise LeaseLostError(tuple(sorted(lease.tracking_id for lease in refused)))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _connect_writer(self) -> sqlite3.Connection:
        connection = connect(self._settings)
        try:
            if not _migrations.is_current(connection):
                begin(connection, self._settings.timeout.total_seconds())
                _migrations.migrate(connection)
                connection.execute("COMMIT")
            connection.execute("PRAGMA busy_timeout = 0")  # the writer waits by itself, see _thread.begin
        except BaseException:
            connection.close()
            raise
        return connection

    async def _write(self, work: Work[T]) -> T:
        return await self._call(self._writer, work)

    async def _read(self, work: Work[T]) -> T:
        return await self._call(self._reader, work)

    async def _call(self, thread: ConnectionThread | None, work: Work[T]) -> T:
        self._check_open()
        assert thread is not None  # noqa: S101  # _check_open has looked
        try:
            return await thread.call(work)
        except sqlite3.Error as error:
            raise translated(error, self._settings.path) from error

    def _check_open(self) -> None:
        if self._writer is None:
            raise StorageClosedError(f"{self._settings.path} is not open; await open() first")
        if self._pid != os.getpid():
            raise StorageClosedError(
                f"{self._settings.path} was opened by the process that this one was forked from; open it here anew"
            )

    def _check_transaction(self, connection: sqlite3.Connection) -> None:
        """Refuse a connection that is not in a transaction on this very file: what is stored there would be lost."""
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"transaction must be a sqlite3.Connection, not {type(connection).__name__}")
        if not connection.in_transaction:
            raise UsageError("the connection has no open transaction; execute BEGIN IMMEDIATE first")
        cursor = connection.cursor()
        cursor.row_factory = None
        files = {name: file for _, name, file in cursor.execute("PRAGMA database_list")}
        file = files.get("main")
        if not file or not self._settings.path.samefile(file):
            raise UsageError(f"the connection is on {file or 'another database'}, not {self._settings.path}")
