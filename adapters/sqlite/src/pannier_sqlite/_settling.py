"""Settling, renewing and reporting: every write that needs a lease."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from pannier.instants import from_microseconds, to_microseconds
from pannier.records import (
    Failed,
    JobError,
    JobStatus,
    Lease,
    Payload,
    Release,
    Retry,
    Settlement,
    Succeeded,
)
from pannier.transitions import with_error
from pannier_sqlite import _rows
from pannier_sqlite._rows import Value
from pannier_sqlite._statements import statement


def settle_jobs(connection: sqlite3.Connection, settlements: Sequence[Settlement], now: datetime) -> frozenset[Lease]:
    """
    Apply *settlements*, return the refused leases. Inside the transaction of *connection*.

    Raises:
        UnstorableError: A result can't be held. Nothing was written.
    """
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    at = to_microseconds(now)
    results = [_encoded(settlement) for settlement in settlements]  # all of them before anything is written (R123)
    return frozenset(
        settlement.lease
        for settlement, result in zip(settlements, results, strict=True)
        if not _settle(cursor, settlement, result, at)
    )


def renew_leases(
    connection: sqlite3.Connection, leases: Collection[Lease], now: datetime, lease_for: timedelta
) -> frozenset[Lease]:
    """Move the ends of *leases*; return those that no longer stand."""
    end, renew = to_microseconds(now + lease_for), statement("renew_lease")
    return frozenset(
        lease for lease in leases if connection.execute(renew, (end, str(lease.tracking_id), lease.fence)).rowcount == 0
    )


def store_progress(connection: sqlite3.Connection, lease: Lease, progress: Payload) -> bool:
    """Keep *progress* if *lease* stands. Raises UnstorableError."""
    data, encoding = _rows.from_payload(progress, lease.tracking_id)
    _rows.check_text(encoding, "encoding", lease.tracking_id)
    written = connection.execute(statement("store_progress"), (data, encoding, str(lease.tracking_id), lease.fence))
    return written.rowcount == 1


def _encoded(settlement: Settlement) -> tuple[Value, Value]:
    match settlement.outcome:
        case Succeeded(result=Payload() as result):
            _rows.check_text(result.encoding, "encoding", settlement.lease.tracking_id)
            return _rows.from_payload(result, settlement.lease.tracking_id)
        case _:
            return None, None


def _settle(cursor: sqlite3.Cursor, settlement: Settlement, result: tuple[Value, Value], at: int) -> bool:
    """Apply one settlement. Return whether its lease stands, or its effect did already."""
    lease, outcome = settlement.lease, settlement.outcome
    key = (str(lease.tracking_id), lease.fence)
    match outcome:
        case Succeeded():
            is_applied = cursor.execute(statement("settle_succeeded"), (*result, at, *key)).rowcount == 1
        case Release():
            is_applied = cursor.execute(statement("settle_released"), key).rowcount == 1
        case Failed(error=error):
            is_applied = _fail(cursor, key, error, at, retry_at=None)
        case Retry(at=retry_at, error=error):
            is_applied = _fail(cursor, key, error, at, retry_at=to_microseconds(retry_at))
        case _:
            assert_never(outcome)
    return is_applied or _is_repeat(cursor, settlement)


def _fail(cursor: sqlite3.Cursor, key: tuple[str, int], error: JobError, at: int, *, retry_at: int | None) -> bool:
    """Apply a Failed or a Retry; one that comes too late for its job fails it (R58)."""
    row = cursor.execute(statement("read_errors"), key).fetchone()
    if row is None:
        return False
    seq, expire_on, stored = row
    errors = _rows.from_errors(with_error(_readable_errors(stored), error))
    if retry_at is None or (expire_on is not None and expire_on <= retry_at):
        cursor.execute(statement("settle_failed"), (at, errors, seq))
    else:
        cursor.execute(statement("settle_retry"), (retry_at, errors, seq))
    return True


def _readable_errors(stored: bytes | None) -> tuple[JobError, ...]:
    """Return the errors so far; none where another hand has damaged them: the job must still come to its end."""
    try:
        return () if stored is None else _rows.to_errors(stored)
    except (ValueError, TypeError, KeyError):
        return ()


def _is_repeat(cursor: sqlite3.Cursor, settlement: Settlement) -> bool:
    """Whether the effect of *settlement* stands already: same fence, and the status that it leads to (R50)."""
    row = cursor.execute(statement("read_state"), (str(settlement.lease.tracking_id),)).fetchone()
    if row is None:
        return False
    fence, status, expire_on = row
    return bool(fence == settlement.lease.fence and status == _leads_to(settlement, expire_on))


def _leads_to(settlement: Settlement, expire_on: int | None) -> JobStatus:
    match settlement.outcome:
        case Succeeded():
            return JobStatus.SUCCEEDED
        case Failed():
            return JobStatus.FAILED
        case Release():
            return JobStatus.PENDING
        case Retry(at=at):
            is_late = expire_on is not None and from_microseconds(expire_on) <= at
            return JobStatus.FAILED if is_late else JobStatus.PENDING
        case _:
            assert_never(settlement.outcome)
