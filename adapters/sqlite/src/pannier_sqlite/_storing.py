"""Storing new jobs."""

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from pannier.records import JobRecord
from pannier.storage import check_new_jobs
from pannier_sqlite import _rows
from pannier_sqlite._rows import Value
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work


def store_jobs(jobs: Sequence[JobRecord]) -> Work[list[UUID]]:
    """
    Check and encode *jobs*. What is returned stores them, and returns the ids that stand (R7, R10).

    Raises:
        ValueError: One is not new.
        UnstorableError: One can't be held.
    """
    check_new_jobs(jobs)
    rows = [_rows.from_job(job) for job in jobs]
    if any(job.idempotency_key is not None for job in jobs):
        return lambda connection: [_insert(connection, job, row) for job, row in zip(jobs, rows, strict=True)]
    ids = [job.tracking_id for job in jobs]
    return lambda connection: _insert_all(connection, rows, ids)


def _insert_all(connection: sqlite3.Connection, rows: Sequence[tuple[Value, ...]], ids: list[UUID]) -> list[UUID]:
    """Insert jobs without keys: whether one is new or was known before, its own id stands."""
    connection.executemany(statement("store_job"), rows)
    return ids


def _insert(connection: sqlite3.Connection, job: JobRecord, row: tuple[Value, ...]) -> UUID:
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    if cursor.execute(statement("store_job"), row).rowcount == 1:
        return job.tracking_id
    (standing,) = cursor.execute(statement("find_standing_job"), (row[0], job.queue_id, job.idempotency_key)).fetchone()
    return _rows.to_id(standing)
