"""Reading: on a connection of its own, so that a reader never waits for a writer."""

import json
import sqlite3
from uuid import UUID

from pannier import jsontext
from pannier.checks import require, require_int
from pannier.errors import StorageRefusedError
from pannier.inspection import JobFilter, JobPage
from pannier.records import JobRecord, JobStatus, StoredResult
from pannier_sqlite import _rows
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work


def get_job(tracking_id: UUID) -> Work[JobRecord | None]:
    """Return what returns the job, or None."""
    require(tracking_id, UUID, "tracking_id")
    key = (_rows.from_id(tracking_id),)

    def get(connection: sqlite3.Connection) -> JobRecord | None:
        row = connection.execute(statement("get_job"), key).fetchone()
        return None if row is None else _rows.to_shown_job(row)

    return get


def get_job_result(tracking_id: UUID) -> Work[StoredResult | None]:
    """Return what returns status, progress, result and errors, or None."""
    require(tracking_id, UUID, "tracking_id")
    key = (_rows.from_id(tracking_id),)

    def get(connection: sqlite3.Connection) -> StoredResult | None:
        row = connection.execute(statement("get_job_result"), key).fetchone()
        try:
            return None if row is None else _rows.to_result(row)
        except _rows.UNREADABLE as error:
            raise StorageRefusedError(
                f"the result of job {tracking_id} can't be read: {_rows.describe(error)}"
            ) from error

    return get


def find_jobs(wanted: JobFilter, cursor: str | None, limit: int) -> Work[JobPage]:
    """
    Return what returns the next page, in the order in which the jobs were stored, which never changes (R98).

    Raises:
        ValueError: The cursor is none of ours, or the limit is below 1.
    """
    require_int(limit, "limit", minimum=1)
    told = {
        **_conditions(wanted),
        "after": 0 if cursor is None else _after(cursor),
        "limit": min(limit, 2**62) + 1,  # one more tells whether there is another page
    }

    def find(connection: sqlite3.Connection) -> JobPage:
        rows = connection.execute(statement("find_jobs"), told).fetchall()
        page = rows[:limit]
        return JobPage(
            jobs=tuple(_rows.to_shown_job(row[1:]) for row in page),
            cursor=str(page[-1][0]) if len(rows) > limit else None,
        )

    return find


def count_jobs(wanted: JobFilter) -> Work[dict[tuple[str, JobStatus], int]]:
    """Return what counts matching jobs by queue and status."""
    told = _conditions(wanted)
    counting = statement("count_jobs_with_metadata" if wanted.metadata else "count_jobs")

    def count(connection: sqlite3.Connection) -> dict[tuple[str, JobStatus], int]:
        rows = connection.execute(counting, told)
        return {(queue_id, JobStatus(status)): jobs for queue_id, status, jobs in rows}

    return count


def _conditions(wanted: JobFilter) -> dict[str, str | int | None]:
    require(wanted, JobFilter, "wanted")
    queue_ids, statuses = wanted.queue_ids, wanted.statuses
    return {
        "queue_ids": None
        if queue_ids is None
        else json.dumps([queue_id.encode("utf-8", "surrogatepass").hex().upper() for queue_id in queue_ids]),
        "statuses": None if statuses is None else json.dumps([status.value for status in statuses]),
        "metadata": jsontext.dump(dict(wanted.metadata)) if wanted.metadata else None,
    }


def _after(cursor: object) -> int:
    if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise ValueError(f"cursor {cursor!r} was not given out by find_jobs; pass JobPage.cursor, or None")
    return int(cursor)
