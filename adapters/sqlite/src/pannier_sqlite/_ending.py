"""Ending and beginning again: cancel, requeue, purge."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pannier.checks import require
from pannier.inspection import Requeue
from pannier.instants import MICROSECOND, to_microseconds
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobStatus
from pannier.transitions import check_requeue
from pannier_sqlite import _rows
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work

_LEAST_INTEGER: Final = -(2**63)
"""What an integer of SQLite's can hold: less than the microseconds of `timedelta.max`, which is no time limit."""


def cancel_job(tracking_id: UUID, now: datetime) -> Work[Cancellation]:
    """Return what ends an unfinished job at once and for good."""
    require(tracking_id, UUID, "tracking_id")
    spelt, at = _rows.from_id(tracking_id), to_microseconds(now)

    def cancel(connection: sqlite3.Connection) -> Cancellation:
        if connection.execute(statement("cancel_job"), (at, spelt)).rowcount == 1:
            return Cancellation.CANCELLED
        match _status(connection, spelt):
            case None:
                return Cancellation.NOT_FOUND
            case JobStatus.CANCELLED:
                return Cancellation.CANCELLED
            case _:
                return Cancellation.ALREADY_COMPLETE

    return cancel


def requeue_job(tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Work[Requeue]:
    """
    Return what makes a complete job that did not succeed PENDING again.

    Raises:
        ValueError: It would have expired already.
    """
    require(tracking_id, UUID, "tracking_id")
    check_requeue(now=now, expire_on=expire_on)
    told = {
        "tracking_id": _rows.from_id(tracking_id),
        "now": to_microseconds(now),
        "expire_on": None if expire_on is None else to_microseconds(expire_on),
    }

    def requeue(connection: sqlite3.Connection) -> Requeue:
        if connection.execute(statement("requeue_job"), told).rowcount == 1:
            return Requeue.REQUEUED
        match _status(connection, _rows.from_id(tracking_id)):
            case None:
                return Requeue.NOT_FOUND
            case JobStatus.SUCCEEDED:
                return Requeue.ALREADY_SUCCEEDED
            case _:
                return Requeue.NOT_COMPLETE

    return requeue


def purge_stale_jobs(stale: StaleJobs) -> Work[Purged]:
    """Return what deletes jobs that were kept long enough, then marks those that have expired, a step of each."""
    require(stale, StaleJobs, "stale")
    for queue_id in stale.queue_ids or ():
        _rows.check_text(queue_id, "queue_id", None)

    def purge(connection: sqlite3.Connection) -> Purged:
        deleted = sum(_delete(connection, stale))  # first: what this step marks it does not delete (R72)
        return Purged(expired=sum(_expire(connection, stale)), deleted=deleted)

    return purge


def _delete(connection: sqlite3.Connection, stale: StaleJobs) -> Iterator[int]:
    room = min(stale.limit, 2**62)
    for queue_id in _queues(connection, "list_finished_queues", stale):
        for status, age in stale.keep.items():
            told = {
                "queue_id": queue_id,
                "status": status.value,
                "finished_until": _finished_until(stale.now, age),
                "limit": room,
            }
            deleted = connection.execute(statement("delete_stale_jobs"), told).rowcount
            room -= deleted
            yield deleted
            if not room:
                return


def _finished_until(now: datetime, age: timedelta) -> int:
    """Return when jobs that are kept for *age* must have finished to be deleted now: before the year 1, perhaps."""
    return max(to_microseconds(now) - age // MICROSECOND, _LEAST_INTEGER)


def _expire(connection: sqlite3.Connection, stale: StaleJobs) -> Iterator[int]:
    room = min(stale.limit, 2**62)
    for queue_id in _queues(connection, "list_expiring_queues", stale):
        told = {"queue_id": queue_id, "now": to_microseconds(stale.now), "limit": room}
        marked = connection.execute(statement("expire_stale_jobs"), told).rowcount
        room -= marked
        yield marked
        if not room:
            return


def _queues(connection: sqlite3.Connection, listing: str, stale: StaleJobs) -> list[str]:
    if stale.queue_ids is not None:
        return sorted(stale.queue_ids)
    return [queue_id for (queue_id,) in connection.execute(statement(listing))]


def _status(connection: sqlite3.Connection, tracking_id: str) -> str | None:
    row = connection.execute(statement("read_state"), (tracking_id,)).fetchone()
    return None if row is None else row[1]
