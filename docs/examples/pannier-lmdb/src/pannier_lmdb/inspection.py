"""The add-on "inspect": listing by tracking id, and counting."""

from collections import Counter
from uuid import UUID

from pannier.storage import JobFilter, JobPage, JobRecord, JobStatus, require

from pannier_lmdb.jobs import Jobs


def find_jobs(jobs: Jobs, wanted: JobFilter, *, after: UUID | None, limit: int) -> JobPage:
    """List the jobs behind *after*. A listing goes by tracking id, which never changes: no job slips through."""
    page: list[JobRecord] = []
    for job in jobs.iterate_all(after=after):
        if not _matches(job, wanted):
            continue
        if len(page) == limit:
            return JobPage(tuple(page), cursor=page[-1].tracking_id.hex)
        page.append(jobs.with_command(job))
    return JobPage(tuple(page), cursor=None)


def read_cursor(cursor: str | None) -> UUID | None:
    """
    Return the job that a cursor stands behind.

    Raises:
        TypeError: It is no text.
        ValueError: `find_jobs` did not write it.
    """
    if cursor is None:
        return None
    require(cursor, str, "cursor")
    try:
        return UUID(cursor)
    except ValueError as error:
        raise ValueError("cursor: this storage gave out no such one") from error


def count_jobs(jobs: Jobs, wanted: JobFilter) -> Counter[tuple[str, JobStatus]]:
    """Count the jobs that match."""
    return Counter((job.queue_id, job.status) for job in jobs.iterate_all() if _matches(job, wanted))


def _matches(job: JobRecord, wanted: JobFilter) -> bool:
    return (
        (wanted.queue_ids is None or job.queue_id in wanted.queue_ids)
        and (wanted.statuses is None or job.status in wanted.statuses)
        and wanted.metadata.items() <= job.metadata.items()
    )
