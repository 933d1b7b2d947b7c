"""Reading: get, find, count. Locks nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

from asyncpg import Record

from pannier.errors import StorageRefusedError
from pannier.inspection import JobFilter, JobPage
from pannier.records import JobRecord, JobStatus, StoredResult
from pannier_postgres._connection import Connection, transaction
from pannier_postgres._rows import from_metadata, is_text, to_job, to_result

T = TypeVar("T")

LIMIT_MAX: Final = 2**31 - 1

_BATCH: Final = 500
"""How many rows are turned into records before others may run: 5 ms."""

_ANY_PLAN: Final = """
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_bitmapscan = on;
SET LOCAL enable_sort = on
"""
"""What is asked for by people has no one right plan: which index serves depends on what they look for."""


async def get_job(connection: Connection, sql: Mapping[str, str], tracking_id: UUID) -> JobRecord | None:
    """Return the job, or None."""
    row = await connection.fetchrow(sql["get_job"], tracking_id)
    return None if row is None else _readable(to_job, row, tracking_id)


async def get_job_result(connection: Connection, sql: Mapping[str, str], tracking_id: UUID) -> StoredResult | None:
    """Return status, progress, result and errors, or None."""
    row = await connection.fetchrow(sql["get_job_result"], tracking_id)
    return None if row is None else _readable(to_result, row, tracking_id)


async def find_jobs(
    connection: Connection, sql: Mapping[str, str], wanted: JobFilter, *, after: UUID, limit: int
) -> JobPage:
    """Return the next page in the order of tracking ids, which never changes (R98)."""
    if not _can_match(wanted):
        return JobPage((), None)
    async with transaction(connection):
        await connection.execute(_ANY_PLAN)
        rows = await connection.fetch(sql["find_jobs"], *_conditions(wanted), after, min(limit, LIMIT_MAX - 1) + 1)
    jobs: list[JobRecord] = []
    for row in rows[:limit]:
        if len(jobs) % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
        jobs.append(_readable(to_job, row, row["tracking_id"]))
    return JobPage(tuple(jobs), str(rows[limit]["tracking_id"]) if len(rows) > limit else None)


async def count_jobs(
    connection: Connection, sql: Mapping[str, str], wanted: JobFilter
) -> dict[tuple[str, JobStatus], int]:
    """Count matching jobs by queue and status."""
    if not _can_match(wanted):
        return {}
    async with transaction(connection):
        await connection.execute(_ANY_PLAN)
        rows = await connection.fetch(sql["count_jobs"], *_conditions(wanted))
    return {(queue_id, JobStatus(status)): count for queue_id, status, count in rows}


def to_start(cursor: str | None) -> UUID:
    """
    Return from which tracking id on *cursor* goes on.

    Raises:
        ValueError: It was not given out by `find_jobs`.
    """
    if cursor is None:
        return UUID(int=0)
    try:
        start = UUID(cursor)
    except (ValueError, AttributeError, TypeError):
        start = None
    if start is None or str(start) != cursor:
        raise ValueError(f"cursor {cursor!r} was not given out by find_jobs; pass JobPage.cursor, or None")
    return start


def _can_match(wanted: JobFilter) -> bool:
    """Whether any stored job can match: none has metadata that can't be stored."""
    return all(is_text(key) and is_text(value) for key, value in wanted.metadata.items())


def _conditions(wanted: JobFilter) -> tuple[Sequence[str] | None, Sequence[str] | None, str | None]:
    return (
        None if wanted.queue_ids is None else sorted(filter(is_text, wanted.queue_ids)),
        None if wanted.statuses is None else sorted(wanted.statuses),
        from_metadata(wanted.metadata, None) if wanted.metadata else None,
    )


def _readable(convert: Callable[[Record], T], row: Record, tracking_id: UUID) -> T:
    try:
        return convert(row)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageRefusedError(
            f"job {tracking_id} was damaged by another hand: {type(error).__name__}: {error}; mend or delete its row"
        ) from error
