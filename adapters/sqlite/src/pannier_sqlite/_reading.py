"""Reading: on a connection of its own, so that a reader never waits for a writer."""

import json
import sqlite3
from uuid import UUID

from pannier.records import JobFilter, JobPage, JobRecord, JobStatus, StoredResult
from pannier_sqlite import _rows
from pannier_sqlite._statements import statement


def get_job(connection: sqlite3.Connection, tracking_id: UUID) -> JobRecord | None:
    """Return the job, or None."""
    row = connection.execute(statement("get_job"), (str(tracking_id),)).fetchone()
    return None if row is None else _rows.to_job(row)


def get_job_result(connection: sqlite3.Connection, tracking_id: UUID) -> StoredResult | None:
    """Return status, progress, result and errors, or None."""
    row = connection.execute(statement("get_job_result"), (str(tracking_id),)).fetchone()
    return None if row is None else _rows.to_result(row)


def find_jobs(connection: sqlite3.Connection, wanted: JobFilter, cursor: str | None, limit: int) -> JobPage:
    """
    Return the next page in the order in which the jobs were stored, which never changes (R98).

    Raises:
        ValueError: The cursor is none of ours, or the limit is below 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    after = 0 if cursor is None else _after(cursor)
    rows = connection.execute(
        statement("find_jobs"), {**_conditions(wanted), "after": after, "limit": min(limit + 1, 2**62)}
    ).fetchall()
    page = rows[:limit]
    return JobPage(tuple(_rows.to_job(row[1:]) for row in page), str(page[-1][0]) if len(rows) > limit else None)


def count_jobs(connection: sqlite3.Connection, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
    """Count matching jobs by queue and status."""
    rows = connection.execute(statement("count_jobs"), _conditions(wanted))
    return {(queue_id, JobStatus(status)): count for queue_id, status, count in rows}


def _conditions(wanted: JobFilter) -> dict[str, str | None]:
    queue_ids, statuses = wanted.queue_ids, wanted.statuses
    return {
        "queue_ids": None
        if queue_ids is None
        else json.dumps([name.encode("utf-8", "surrogatepass").hex().upper() for name in queue_ids]),
        "statuses": None if statuses is None else json.dumps([status.value for status in statuses]),
        "metadata": json.dumps(dict(wanted.metadata)) if wanted.metadata else None,
    }


def _after(cursor: str) -> int:
    if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise ValueError(f"cursor {cursor!r} was not given out by find_jobs; pass JobPage.cursor, or None")
    return int(cursor)
