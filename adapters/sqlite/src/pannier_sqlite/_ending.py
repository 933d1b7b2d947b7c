"""Ending and beginning again: cancel, requeue, purge."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from pannier.instants import MICROSECOND, to_microseconds
from pannier.records import Cancellation, JobStatus, Purged, Requeue, StaleJobs
from pannier_sqlite._statements import statement


def cancel_job(connection: sqlite3.Connection, tracking_id: UUID, now: datetime) -> Cancellation:
    """End an unfinished job at once and for good."""
    if connection.execute(statement("cancel_job"), (to_microseconds(now), str(tracking_id))).rowcount == 1:
        return Cancellation.CANCELLED
    match _status(connection, tracking_id):
        case None:
            return Cancellation.NOT_FOUND
        case JobStatus.CANCELLED:
            return Cancellation.CANCELLED
        case _:
            return Cancellation.ALREADY_COMPLETE


def requeue_job(
    connection: sqlite3.Connection, tracking_id: UUID, now: datetime, expire_on: datetime | None
) -> Requeue:
    """Make a complete job that did not succeed PENDING again."""
    written = connection.execute(
        statement("requeue_job"),
        {
            "tracking_id": str(tracking_id),
            "now": to_microseconds(now),
            "expire_on": None if expire_on is None else to_microseconds(expire_on),
        },
    )
    if written.rowcount == 1:
        return Requeue.REQUEUED
    match _status(connection, tracking_id):
        case None:
            return Requeue.NOT_FOUND
        case JobStatus.SUCCEEDED:
            return Requeue.ALREADY_SUCCEEDED
        case _:
            return Requeue.NOT_COMPLETE


def purge_stale_jobs(connection: sqlite3.Connection, stale: StaleJobs) -> Purged:
    """Delete what has been kept long enough, then mark what has expired, a bounded step of each."""
    deleted = sum(_delete(connection, stale))  # first: what is marked in this step is not deleted in it (R72)
    return Purged(expired=sum(_expire(connection, stale)), deleted=deleted)


def _delete(connection: sqlite3.Connection, stale: StaleJobs) -> Iterable[int]:
    room = stale.limit
    for queue_id in _queues(connection, "list_finished_queues", stale):
        for status, age in stale.keep.items():
            if not room:
                return
            until = to_microseconds(stale.now) - age // MICROSECOND  # may lie before the year 1, where no datetime is
            deleted = connection.execute(
                statement("delete_stale_jobs"),
                {"queue_id": queue_id, "status": status.value, "finished_until": until, "limit": room},
            ).rowcount
            room -= deleted
            yield deleted


def _expire(connection: sqlite3.Connection, stale: StaleJobs) -> Iterable[int]:
    room = stale.limit
    for queue_id in _queues(connection, "list_expiring_queues", stale):
        if not room:
            return
        marked = connection.execute(
            statement("expire_stale_jobs"),
            {"queue_id": queue_id, "now": to_microseconds(stale.now), "limit": room},
        ).rowcount
        room -= marked
        yield marked


def _queues(connection: sqlite3.Connection, listing: str, stale: StaleJobs) -> list[str]:
    if stale.queue_ids is not None:
        return sorted(stale.queue_ids)
    return [queue_id for (queue_id,) in connection.execute(statement(listing))]


def _status(connection: sqlite3.Connection, tracking_id: UUID) -> str | None:
    row = connection.execute(statement("read_state"), (str(tracking_id),)).fetchone()
    return None if row is None else row[1]
