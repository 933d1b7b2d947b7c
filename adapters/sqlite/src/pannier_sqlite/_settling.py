"""Settling, renewing and reporting: every write that needs a lease."""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never
from uuid import UUID

from attrs import field, frozen

from pannier.checks import require
from pannier.errortext import dump_errors
from pannier.instants import to_microseconds
from pannier.records import JobError, JobStatus, Lease, Payload
from pannier.settlements import Failed, Release, Retry, Settlement, Succeeded
from pannier.transitions import lease_end, with_error
from pannier_sqlite import _rows
from pannier_sqlite._rows import MAX_FENCE, Value
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work

Key: TypeAlias = tuple[str, int]


@frozen
class _Failure:
    """A Failed, or a Retry at *retry_at*."""

    key: Key
    error: JobError
    retry_at: int | None


@frozen
class _Round:
    """Settlements of as many jobs, so that their order does not matter; encoded, each kind for itself."""

    settlements: Sequence[Settlement]
    succeeded: list[tuple[Value, ...]] = field(factory=list[tuple[Value, ...]])
    failures: list[_Failure] = field(factory=list[_Failure])
    released: list[Key] = field(factory=list[Key])


def settle_jobs(settlements: Sequence[Settlement], now: datetime) -> Work[frozenset[Lease]]:
    """
    Check and encode *settlements*. What is returned applies them, and returns the refused leases.

    Raises:
        UnstorableError: A result can't be held.
    """
    at = to_microseconds(now)
    rounds = [_encoded(batch, at) for batch in _rounds(settlements)]
    return lambda connection: frozenset().union(*(_settle(connection, batch, at) for batch in rounds))


def renew_leases(leases: Sequence[Lease], now: datetime, lease_for: timedelta) -> Work[frozenset[Lease]]:
    """Return what moves the ends of *leases*, and returns those that no longer stand."""
    for lease in leases:
        require(lease, Lease, "leases")
    end = to_microseconds(lease_end(now, lease_for))
    keys = [(end, *_key(lease)) for lease in leases]

    def renew(connection: sqlite3.Connection) -> frozenset[Lease]:
        if connection.executemany(statement("renew_lease"), keys).rowcount == len(keys):
            return frozenset()
        return frozenset(lease for lease in leases if not _stands(connection, lease))

    return renew


def store_progress(lease: Lease, progress: Payload) -> Work[bool]:
    """Return what keeps *progress*, if *lease* stands. Raises UnstorableError."""
    require(lease, Lease, "lease")
    require(progress, Payload, "progress")
    row = (*_rows.from_payload(progress, lease.tracking_id), *_key(lease))
    return lambda connection: connection.execute(statement("store_progress"), row).rowcount == 1


def _rounds(settlements: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """Split *settlements* where a job comes a second time: those have to follow one another."""
    for settlement in settlements:
        if type(settlement) is not Settlement:
            require(settlement, Settlement, "settlements")
    # By the ids' integers: hashing a UUID runs Python code.
    if len({settlement.lease.tracking_id.int for settlement in settlements}) == len(settlements):
        yield settlements
        return
    waiting = list(settlements)
    while waiting:
        first: dict[object, Settlement] = {}
        for settlement in waiting:
            first.setdefault(settlement.lease.tracking_id, settlement)
        yield list(first.values())
        waiting = [settlement for settlement in waiting if first[settlement.lease.tracking_id] is not settlement]


def _encoded(settlements: Sequence[Settlement], at: int) -> _Round:
    batch = _Round(settlements)
    for settlement in settlements:
        tracking_id, fence = key = _key(settlement.lease)
        match settlement.outcome:
            case Succeeded(result=result) if result is not None:
                data, encoding = _rows.from_payload(result, settlement.lease.tracking_id)
                batch.succeeded.append((data, encoding, at, tracking_id, fence))
            case Succeeded():
                batch.succeeded.append((None, None, at, tracking_id, fence))
            case Failed(error=error):
                batch.failures.append(_Failure(key, error, None))
            case Retry(at=retry_at, error=error):
                batch.failures.append(_Failure(key, error, to_microseconds(retry_at)))
            case _:
                batch.released.append(key)
    return batch


def _settle(connection: sqlite3.Connection, batch: _Round, at: int) -> frozenset[Lease]:
    """Apply *batch*; only where something was not applied ask why: it is a repeat, or it is refused."""
    applied = 0
    if batch.succeeded:
        applied += connection.executemany(statement("settle_succeeded"), batch.succeeded).rowcount
    if batch.released:
        applied += connection.executemany(statement("settle_released"), batch.released).rowcount
    for failure in batch.failures:
        applied += _fail(connection, failure, at)
    if applied == len(batch.settlements):
        return frozenset()
    return frozenset(settlement.lease for settlement in batch.settlements if not _has_effect(connection, settlement))


def _fail(connection: sqlite3.Connection, failure: _Failure, at: int) -> int:
    """Apply a Failed or a Retry; one that comes too late for its job fails it (R58). Return how many were applied."""
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    row: tuple[int, int | None, bytes | None] | None
    row = cursor.execute(statement("read_errors"), failure.key).fetchone()
    if row is None:
        return 0
    seq, expire_on, stored = row
    errors = dump_errors(with_error(_readable_errors(stored), failure.error))
    if failure.retry_at is None or (expire_on is not None and expire_on <= failure.retry_at):
        return connection.execute(statement("settle_failed"), (at, errors, seq)).rowcount
    return connection.execute(statement("settle_retry"), (failure.retry_at, errors, seq)).rowcount


def _readable_errors(stored: bytes | None) -> tuple[JobError, ...]:
    """Return the errors so far; none where another hand has damaged them: the job must still come to its end."""
    try:
        return () if stored is None else _rows.to_errors(stored)
    except _rows.UNREADABLE:
        return ()


def _has_effect(connection: sqlite3.Connection, settlement: Settlement) -> bool:
    """Whether the effect of *settlement* stands: its fence, and the status that it leads to (R50)."""
    state = _state(connection, settlement.lease.tracking_id)
    if state is None:
        return False
    fence, status, expire_on = state
    return fence == settlement.lease.fence and status == _leads_to(settlement, expire_on)


def _leads_to(settlement: Settlement, expire_on: int | None) -> JobStatus:
    match settlement.outcome:
        case Succeeded():
            return JobStatus.SUCCEEDED
        case Failed():
            return JobStatus.FAILED
        case Release():
            return JobStatus.PENDING
        case Retry(at=at):
            is_late = expire_on is not None and expire_on <= to_microseconds(at)
            return JobStatus.FAILED if is_late else JobStatus.PENDING
        case _:
            assert_never(settlement.outcome)


def _stands(connection: sqlite3.Connection, lease: Lease) -> bool:
    state = _state(connection, lease.tracking_id)
    return state is not None and state[:2] == (lease.fence, JobStatus.RUNNING)


def _key(lease: Lease) -> Key:
    fence = lease.fence if lease.fence <= MAX_FENCE else -1  # a fence that nothing ever had
    return _rows.from_id(lease.tracking_id), fence


def _state(connection: sqlite3.Connection, tracking_id: UUID) -> tuple[int, str, int | None] | None:
    """Return fence, status and expire_on, or None."""
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    state: tuple[int, str, int | None] | None = cursor.execute(
        statement("read_state"), (_rows.from_id(tracking_id),)
    ).fetchone()
    return state
