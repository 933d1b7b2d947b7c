"""Storing new jobs."""

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from pannier.records import JobRecord
from pannier_sqlite import _rows
from pannier_sqlite._statements import statement


def store_jobs(connection: sqlite3.Connection, jobs: Sequence[JobRecord]) -> list[UUID]:
    """
    Insert *jobs* and return the ids that stand (R7, R10). Inside the transaction of *connection*.

    Raises:
        UnstorableError: One can't be held; some may have been inserted, the transaction is to undo that.
    """
    insert, find = statement("store_job"), statement("find_standing_job")
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    standing: list[UUID] = []
    for row, job in [(_rows.from_job(job), job) for job in jobs]:
        if cursor.execute(insert, row).rowcount == 1:
            standing.append(job.tracking_id)
        else:
            found = cursor.execute(find, (str(job.tracking_id), job.queue_id, job.idempotency_key)).fetchone()
            standing.append(_rows.to_id(found[0]))
    return standing
