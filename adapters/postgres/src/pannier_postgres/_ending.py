"""Ending and beginning again: cancel, requeue, purge."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pannier.inspection import Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobStatus
from pannier.transitions import cancel_answer, requeue_answer
from pannier_postgres._connection import Connection
from pannier_postgres._rows import is_text

LIMIT_MAX: Final = 2**31 - 1

_FIRST_INSTANT: Final = datetime.min.replace(tzinfo=UTC)


async def cancel(connection: Connection, sql: Mapping[str, str], tracking_id: UUID, now: datetime) -> Cancellation:
    """End an unfinished job at once and for good."""
    while True:
        if await connection.fetchrow(sql["cancel_job"], tracking_id, now) is not None:
            return Cancellation.CANCELLED
        answer = cancel_answer(await _status(connection, sql, tracking_id))
        if answer is not None:
            return answer
        # It was complete, and has been requeued since.


async def requeue(
    connection: Connection, sql: Mapping[str, str], tracking_id: UUID, *, now: datetime, expire_on: datetime | None
) -> Requeue:
    """Make a complete job that did not succeed PENDING again."""
    while True:
        if await connection.fetchrow(sql["requeue_job"], tracking_id, now, expire_on) is not None:
            return Requeue.REQUEUED
        answer = requeue_answer(await _status(connection, sql, tracking_id))
        if answer is not None:
            return answer
        # It was unfinished, and has failed or been cancelled since.


async def purge(connection: Connection, sql: Mapping[str, str], stale: StaleJobs) -> Purged:
    """Delete what has been kept long enough, then mark what has expired, a bounded step of each."""
    limit = min(stale.limit, LIMIT_MAX)
    queue_ids = None if stale.queue_ids is None else sorted(filter(is_text, stale.queue_ids))
    kept = [(status, _until(stale, status)) for status in stale.keep]
    # First: what is marked in this step is not deleted in it (R72).
    deleted = await connection.fetchval(
        sql["delete_stale_jobs"], [status for status, _ in kept], [until for _, until in kept], queue_ids, limit
    )
    if queue_ids is None:
        queue_ids = [queue_id for (queue_id,) in await connection.fetch(sql["list_expiring_queues"])]
    expired = await connection.fetchval(sql["expire_jobs"], queue_ids, stale.now, limit)
    return Purged(expired=expired, deleted=deleted)


def _until(stale: StaleJobs, status: JobStatus) -> datetime:
    """Return until when jobs of *status* must have finished to be deleted now."""
    try:
        return stale.now - stale.keep[status]
    except OverflowError:  # before the year 1, when nothing has finished
        return _FIRST_INSTANT


async def _status(connection: Connection, sql: Mapping[str, str], tracking_id: UUID) -> JobStatus | None:
    row = await connection.fetchrow(sql["read_states"], [tracking_id])
    return None if row is None else JobStatus(row["status"])
