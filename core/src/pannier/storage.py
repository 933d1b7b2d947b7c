"""
The contract of a storage: what an adapter implements, and what it may rely on.

A storage keeps jobs and lets many workers share them out safely. It implements `JobStorageProvider` and whichever
add-ons its engine can carry: `JobResultProvider`, `JobInspector`, `JobNotifier`, `TransactionalStorage`. They are found
by type, less `Capabilities.withheld`. The numbers in the docstrings are the contract's rules; each has a test of its
own in the conformance suite.

What holds for all verbs:

- **Isolation and reach.** All instances opened on one URL, in any process or thread, share the jobs and see each
  change at once (R4). Two namespaces share nothing (R95). An instance belongs to the event loop that opened it.
- **Arguments** are values that checked themselves when they were made (R13, R80, R106); a storage checks only new jobs,
  by `check_new_jobs` (R1). What it can't hold exactly it refuses with UnstorableError before it writes anything
  (R5, R17, R71, R81, R96, R100-R105, R123); it never alters, folds or cuts a value. Junk raises TypeError, ValueError
  or a `StorageError`, and does no harm (R108). Nothing is shared with the caller's objects (R3).
- **Time** is passed in as `now`. A storage reads no clock for any decision (R83), and no time zone of its process or
  server has any effect (R79, R82). Intervals are half-open (R19, R21, R37). A storage coarser than a microsecond rounds
  up `execute_after` and `dequeue_after` and down `expire_on` and the `now` that it compares with (R20).
- **Atomicity.** Each job is stored, each settlement applied, atomically, through any crash (R49, R57, R84-R89). The
  batch is atomic where `Capabilities.atomic_batches`; elsewhere a call that raises may have done a part, and repeating
  it does the rest and changes nothing done (R5).
- **Sharing a transaction.** Calls that are awaited at the same time may share a transaction or statement; the outcome
  is as if they had run one after another in the order started, and no call's error or cancellation changes another's
  answer (R91, R122).
- **Cancellation.** Any call may be cancelled at any await; the instance works on, and nothing is leaked (R36, R94,
  R117, R118).
- **Blocking.** No call holds the event loop for 100 ms (R92). No call's cost grows with the backlog (R119, R120).
- **Errors** are pannier's, the driver's own as their cause; retryable ones are told apart; no password and no payload
  stands in a message (R107). A lost connection is StorageUnavailableError within the declared timeout, and the instance
  mends itself (R90, R109-R113).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from attrs import field, frozen

from pannier import jsontext, transitions
from pannier.checks import require
from pannier.claims import Claim, Claimed, Demand, Unreadable
from pannier.errors import (
    ConfigurationError,
    LeaseLostError,
    SchemaTooNewError,
    StorageBusyError,
    StorageClosedError,
    StorageConflictError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnstorableError,
)
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import MICROSECOND, from_microseconds, round_down, round_up, to_microseconds, utc
from pannier.notices import Notice, NoticeKind
from pannier.purging import Purged, StaleJobs
from pannier.records import (
    KEPT_ERRORS,
    Cancellation,
    JobError,
    JobRecord,
    JobStatus,
    Json,
    Lease,
    Payload,
    StoredResult,
)
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier.urls import StorageUrl

# All that the author of a storage imports, beside `pannier.hookimpl`.
__all__ = [
    "ADD_ONS",
    "CONTRACT_VERSION",
    "KEPT_ERRORS",
    "MICROSECOND",
    "Cancellation",
    "Capabilities",
    "Claim",
    "Claimed",
    "ConfigurationError",
    "Demand",
    "Failed",
    "JobError",
    "JobFilter",
    "JobInspector",
    "JobNotifier",
    "JobPage",
    "JobRecord",
    "JobResultProvider",
    "JobStatus",
    "JobStorageProvider",
    "Json",
    "Lease",
    "LeaseLostError",
    "Notice",
    "NoticeKind",
    "Outcome",
    "Payload",
    "Purged",
    "Release",
    "Requeue",
    "Retry",
    "SchemaTooNewError",
    "Settlement",
    "StaleJobs",
    "StorageAdapter",
    "StorageBusyError",
    "StorageClosedError",
    "StorageConflictError",
    "StorageError",
    "StorageRefusedError",
    "StorageUnavailableError",
    "StorageUrl",
    "StoredResult",
    "Succeeded",
    "TransactionalStorage",
    "Unreadable",
    "UnstorableError",
    "add_ons",
    "check_new_jobs",
    "from_microseconds",
    "jsontext",
    "require",
    "round_down",
    "round_up",
    "to_microseconds",
    "transitions",
    "utc",
]

CONTRACT_VERSION: Final = "1.0"
"""The version of this contract. Another major version is refused; an older minor one lacks the newer parts."""

ADD_ONS: Final = ("inspect", "notify", "results", "transactions")
"""The names of the add-ons, as `Capabilities.withheld` and the conformance report spell them."""


@frozen(kw_only=True)
class Capabilities:
    """
    What types can't say about a storage. Read after `open()`.

    Attributes:
        durable: An acknowledged write survives the death of every process (R84-R90).
        shared: Several processes may open it at the same time (R32, R46).
        atomic_batches: A batch that fails has stored nothing (R5).
        time_resolution: The grid that instants are rounded to.
        max_payload: The largest payload in bytes: of bytes as they are, of a tree as `jsontext.dump` writes it, in
            UTF-8 (R71, R102). None: no limit of its own.
        single_writer: One writer at a time for the whole store; lifts the two promises of not waiting (R39, R122).
        withheld: Add-ons of the type that this server can't give.
    """

    durable: bool
    shared: bool
    atomic_batches: bool
    time_resolution: timedelta = MICROSECOND
    max_payload: int | None = None
    single_writer: bool = False
    withheld: frozenset[str] = frozenset()


@runtime_checkable
class JobStorageProvider(Protocol):
    """What every storage does."""

    @property
    def capabilities(self) -> Capabilities:
        """What this storage promises. Complete once `open()` has returned."""
        ...

    async def open(self) -> None:
        """
        Connect, and create or migrate what the storage needs.

        Idempotent; safe when many processes open at once (R114); keeps existing data (R115, R116) and may be killed at
        any point (R89).

        Raises:
            SchemaTooNewError: The store was made by an incompatible newer version; nothing was changed.
            StorageUnavailableError: Nothing answered within the timeout (R109).
            StorageRefusedError: It answered, and refuses: password, rights, server too old, disk (R90).
        """
        ...

    async def close(self) -> None:
        """
        Release everything: tasks, threads, connections (R117).

        Twice is fine; other use afterwards raises (R93). Ends in time though nobody answers (R113).
        """
        ...

    async def read_clock(self) -> datetime | None:
        """Return the storage's own clock, or None if it has none. Only reports; decides nothing (R83)."""
        ...

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """
        Store new jobs, in order; all of their fields come back exactly (R1, R2, R6, R101).

        For each: a tracking id that is stored already stands, unmodified (R7); else the job that has the same queue and
        key stands, finished ones included, also an earlier one of this batch (R10-R12, R14-R18); else the job is
        stored. Without a key nothing is deduplicated (R13).

        Returns:
            For each job the tracking id that stands.

        Raises:
            ValueError: A job is not new (R1).
            UnstorableError: A job can't be held exactly; names it. Nothing was stored.
        """
        ...

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """
        Lease due jobs to one worker, up to each demand's limit (R23, R24, R27).

        Atomic: while its lease lives, no other claim in any process returns the job (R22, R29-R32, R47). From one queue
        it takes lapsed leases first, oldest end first, then PENDING jobs by priority, due time and tracking id; across
        the queues of one demand lapsed leases and higher priorities come first, too (R25, R26, R38). Sets status,
        fence, attempt, lapses, worker and lease on the stored and on the returned record (R33, R34). It may mark
        EXPIRED what a purge would, and touches nothing else. What can't be read comes back in `Claimed.unreadable`
        (R56). Nothing due is an empty answer at once, with a lower bound of the next due instant (R121). Contention
        never surfaces as an error before the timeout (R35).

        Raises:
            StorageUnavailableError: The storage did not answer. Jobs that it may have leased become claimable when that
                lease ends; none is lost (R36, R112).
        """
        ...

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """
        Set the end of each lease to `now + lease_for`, also where that is earlier (R39, R40).

        Never waits for a lease that another transaction is settling at that moment: that one is neither renewed nor
        lost.

        Returns:
            The leases that no longer stand, each by id and fence (R8, R41, R45, R61).
        """
        ...

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """
        Apply what became of attempts, each under its fence (R42, R43, R45, R48, R51-R55, R58, R59, R65, R66).

        A settlement whose effect stands already is accepted again and changes nothing (R50, R111). A lapsed lease still
        counts until a claim, a cancel or a purge ends it (R40). A Retry at or after the job's `expire_on` is applied as
        Failed; an earlier one stays a retry, whatever `now` is (R58).

        Returns:
            The leases that were refused; nothing of theirs was changed.

        Raises:
            UnstorableError: A result can't be held, or is over `max_payload`; names its job, which is still leased.
                Nothing was written (R71, R123).
        """
        ...

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """
        End an unfinished job at once and for good, running or not (R60-R67).

        A running handler learns of it when its lease is refused, or by a notice.
        """
        ...

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """
        Return the job, or None where there is none (R8). Locks, leases and reorders nothing (R99).

        Raises:
            StorageRefusedError: It is there and can't be read; names it (R56). A storage may show what is left instead.
        """
        ...

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """
        Mark EXPIRED what is past `expire_on` and held by no live lease; delete complete jobs whose retention is over.

        A bounded step: at most `stale.limit` of each (R72, R74, R77, R78). Never deletes an unfinished job (R73, R75);
        what it marks it does not delete. Deleting frees the key, and leaves nothing behind (R16, R70, R76).
        """
        ...


@runtime_checkable
class JobResultProvider(Protocol):
    """The add-on "results": progress of running jobs, and results of finished ones."""

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """
        Keep *progress*, if *lease* stands; the last write wins (R44, R69).

        Returns:
            False where the lease is refused.

        Raises:
            UnstorableError: It can't be held, or is over `max_payload`. Nothing was written (R71).
        """
        ...

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Return status, progress, result and errors without the command, or None (R68, R70). Deletes nothing."""
        ...


@runtime_checkable
class JobInspector(Protocol):
    """The add-on "inspect": listing, counting and requeueing."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """
        List jobs that match, a page at a time (R97-R99).

        A job that exists throughout the listing is on exactly one page, whatever is stored or purged meanwhile.

        Raises:
            ValueError: The cursor is not one that this storage gave out, or the limit is below 1.
        """
        ...

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Count matching jobs by queue and status, exactly; zeros may be absent (R97)."""
        ...

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """
        Make a complete job that did not succeed PENDING again, due at *now*, under a new fence (R78).

        Raises:
            ValueError: *expire_on* is not after *now*: the job could never be claimed. Nothing was written.
        """
        ...


@runtime_checkable
class JobNotifier(Protocol):
    """The add-on "notify": push hints. Correctness never needs one."""

    def listen(self, queue_ids: frozenset[str]) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """
        Subscribe to what happens in *queue_ids* from the moment the context is entered (R124).

        Store, cancel and completion arrive within a second, as a notice of their kind or as MISSED. After a reconnect
        the listener gets MISSED (R113).
        """
        ...


Transaction = TypeVar("Transaction", contravariant=True)


@runtime_checkable
class TransactionalStorage(Protocol[Transaction]):
    """The add-on "transactions": storing and settling inside the caller's own transaction of the engine's driver."""

    async def store_jobs_in(self, transaction: Transaction, jobs: Sequence[JobRecord]) -> list[UUID]:
        """
        Do as `store_jobs` inside the caller's open transaction (R9).

        Commits and rolls back nothing; after an expected duplicate the transaction is still usable. No other verb of
        this storage may be awaited inside. After the commit the caller triggers the queue.
        """
        ...

    async def settle_jobs_in(
        self, transaction: Transaction, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        """
        Do as `settle_jobs` inside the caller's open transaction (R9).

        Raises:
            LeaseLostError: Leases were refused. The caller lets the transaction roll back; a forgotten check here would
                commit effects twice, hence no return value.
        """
        ...


@frozen(kw_only=True)
class StorageAdapter:
    """
    How a plugin offers a storage: what its hook `pannier_storage_adapters` returns.

    Attributes:
        name: Short and unique, such as "sqlite".
        schemes: The URL schemes that it serves.
        contract_version: The version of the contract that it was written for.
        create: Makes an unopened provider from a URL; imports the driver only now. Raises ConfigurationError for an
            option that it does not know.
        destroy: Removes what `open()` made in the URL's namespace, and nothing else (R95).
        options: Its URL options, each with a line of explanation.
        exists: Whether `open()` would find a store there instead of making one; it makes nothing itself. None: only
            opening can tell.
        begin: Opens a transaction of the engine's own driver on the URL's store, as an application has one: committed
            when the block ends, rolled back where it raises. Given where the add-on "transactions" is offered; the
            conformance suite tries that by it (R9, R39), for which the storage knows the option `timeout`, in seconds.
    """

    name: str
    schemes: tuple[str, ...]
    create: Callable[[StorageUrl], JobStorageProvider]
    destroy: Callable[[StorageUrl], Awaitable[None]]
    contract_version: str = CONTRACT_VERSION
    options: Mapping[str, str] = field(factory=dict[str, str])
    exists: Callable[[StorageUrl], Awaitable[bool]] | None = None
    begin: Callable[[StorageUrl], AbstractAsyncContextManager[object]] | None = None


def check_new_jobs(jobs: Sequence[JobRecord], *, time_resolution: timedelta = MICROSECOND) -> None:
    """
    Refuse what a new job must not be. Every `store_jobs` calls this first (R1).

    Raises:
        TypeError: Something is no JobRecord.
        ValueError: A job has fields that only a storage writes, or would never be claimable after rounding to
            *time_resolution*. Names the job and the field.
    """
    for job in jobs:
        if type(job) is not JobRecord:
            raise TypeError(f"jobs must be JobRecords, not {type(job).__name__}")
        if not _is_new(job):
            raise ValueError(f"job {job.tracking_id} is not new: {_first_written_field(job)} is set by storages only")
        if time_resolution > MICROSECOND:
            _check_rounded(job, time_resolution)


def add_ons(storage: JobStorageProvider) -> frozenset[str]:
    """Return the names of the add-ons that *storage* offers, less what it withholds. Complete after `open()`."""
    offered = {
        "results": isinstance(storage, JobResultProvider),
        "inspect": isinstance(storage, JobInspector),
        "notify": isinstance(storage, JobNotifier),
        "transactions": isinstance(storage, TransactionalStorage),
    }
    return frozenset(name for name, is_offered in offered.items() if is_offered) - storage.capabilities.withheld


def _is_new(job: JobRecord) -> bool:
    return (
        job.status is JobStatus.PENDING
        and job.attempt == job.lapses == job.fence == 0
        and job.dequeue_after == job.execute_after
        and job.worker_id is None
        and job.progress is None
        and job.result is None
        and not job.errors
    )


def _first_written_field(job: JobRecord) -> str:
    written = {
        "status": job.status is not JobStatus.PENDING,
        "attempt": job.attempt != 0,
        "lapses": job.lapses != 0,
        "fence": job.fence != 0,
        "dequeue_after": job.dequeue_after != job.execute_after,
        "worker_id": job.worker_id is not None,
        "progress": job.progress is not None,
        "result": job.result is not None,
        "errors": bool(job.errors),
    }
    return next(name for name, is_written in written.items() if is_written)


def _check_rounded(job: JobRecord, resolution: timedelta) -> None:
    starts = round_up(job.execute_after, resolution)
    if job.expire_on is not None and round_down(job.expire_on, resolution) <= starts:
        raise ValueError(
            f"job {job.tracking_id}: expire_on ({job.expire_on.isoformat()}) must lie after execute_after "
            f"({job.execute_after.isoformat()}), also after rounding to {resolution}"
        )
