"""Inspecting: listing and counting without touching anything."""

from collections import Counter
from collections.abc import Iterator
from heapq import nsmallest
from uuid import UUID

from pannier.records import JobFilter, JobPage, JobRecord, JobStatus
from pannier_memory.store import Store


def find(store: Store, wanted: JobFilter, *, cursor: str | None, limit: int) -> JobPage:
    """
    Return the next page in the order of the tracking ids, which never change: nothing is skipped or told twice (R98).

    Raises:
        ValueError: The cursor is none of ours, or the limit is below 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    after = -1 if cursor is None else _after(cursor)
    found = nsmallest(limit + 1, (job for job in _matching(store, wanted) if job.tracking_id.int > after), key=_by_id)
    page = tuple(found[:limit])
    return JobPage(page, str(page[-1].tracking_id) if len(found) > limit else None)


def count(store: Store, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
    """Count matching jobs by queue and status."""
    return dict(Counter((job.queue_id, job.status) for job in _matching(store, wanted)))


def _matching(store: Store, wanted: JobFilter) -> Iterator[JobRecord]:
    for job in store.jobs.values():
        if (
            (wanted.queue_ids is None or job.queue_id in wanted.queue_ids)
            and (wanted.statuses is None or job.status in wanted.statuses)
            and wanted.metadata.items() <= job.metadata.items()
        ):
            yield job


def _by_id(job: JobRecord) -> int:
    return job.tracking_id.int


def _after(cursor: str) -> int:
    try:
        return UUID(cursor).int
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"cursor {cursor!r} was not given out by find_jobs; pass JobPage.cursor, or None") from None
