"""Reading: listing and counting what the store held at one moment, without holding it up."""

from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from itertools import chain
from uuid import UUID

from pannier.checks import require, require_int
from pannier.inspection import JobFilter, JobPage
from pannier.records import JobRecord, JobStatus
from pannier_memory._copying import copy_job
from pannier_memory._portions import in_portions


async def find_jobs(jobs: Sequence[JobRecord], wanted: JobFilter, *, cursor: str | None, limit: int) -> JobPage:
    """
    Return the next page of *jobs* in the order of their tracking ids.

    Those never change, so that no job is told twice or passed over (R98). A page costs a look at every job.
    """
    require(wanted, JobFilter, "wanted")
    require_int(limit, "limit", minimum=1)
    after = -1 if cursor is None else _place_of(cursor)
    found: list[JobRecord] = []
    async for portion in in_portions(jobs):
        matching = (job for job in portion if job.tracking_id.int > after and _matches(job, wanted))
        found = nsmallest(limit + 1, chain(found, matching), key=_place)
    page = tuple(map(copy_job, found[:limit]))
    return JobPage(page, str(page[-1].tracking_id) if len(found) > limit else None)


async def count_jobs(jobs: Sequence[JobRecord], wanted: JobFilter) -> Counter[tuple[str, JobStatus]]:
    """Count *jobs* that match by queue and status."""
    require(wanted, JobFilter, "wanted")
    counts: Counter[tuple[str, JobStatus]] = Counter()
    async for portion in in_portions(jobs):
        counts.update((job.queue_id, job.status) for job in portion if _matches(job, wanted))
    return counts


def _matches(job: JobRecord, wanted: JobFilter) -> bool:
    return (
        (wanted.queue_ids is None or job.queue_id in wanted.queue_ids)
        and (wanted.statuses is None or job.status in wanted.statuses)
        and wanted.metadata.items() <= job.metadata.items()
    )


def _place(job: JobRecord) -> int:
    return job.tracking_id.int


def _place_of(cursor: str) -> int:
    require(cursor, str, "cursor")
    try:
        tracking_id = UUID(cursor)
    except ValueError:
        tracking_id = None
    if tracking_id is None or str(tracking_id) != cursor:
        raise ValueError(f"cursor {cursor!r} was not given out by find_jobs; pass JobPage.cursor, or None")
    return tracking_id.int
