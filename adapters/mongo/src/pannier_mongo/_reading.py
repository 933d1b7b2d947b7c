"""Reading: what changes nothing."""

from collections.abc import Callable
from typing import Final, TypedDict, TypeVar, cast
from uuid import UUID

from pannier.errors import StorageRefusedError
from pannier.inspection import JobFilter, JobPage
from pannier.records import JobRecord, JobStatus, StoredResult
from pannier_mongo import _queries
from pannier_mongo._connection import Store, yield_between
from pannier_mongo._documents import UNREADABLE, JobDocument, is_text, to_job, to_result

T = TypeVar("T")

LIMIT_MAX: Final = 2**31 - 1

_BATCH: Final = 500
"""How many documents are turned into records before others may run."""

_RESULT: Final = ("status", "progress", "result", "errors")


class Group(TypedDict):
    """By what jobs are counted."""

    queue_id: str
    status: str


class JobCount(TypedDict):
    """What `_queries.counting` gives."""

    _id: Group
    jobs: int


async def get_job(store: Store, tracking_id: UUID) -> JobRecord | None:
    """Return the job, or None."""
    document = await store.jobs.find_one(_queries.with_id(tracking_id))
    return None if document is None else _readable(to_job, document)


async def get_job_result(store: Store, tracking_id: UUID) -> StoredResult | None:
    """Return status, progress, result and errors, or None."""
    document = await store.jobs.find_one(_queries.with_id(tracking_id), _RESULT)
    return None if document is None else _readable(to_result, document)


async def find_jobs(store: Store, wanted: JobFilter, *, after: UUID | None, limit: int) -> JobPage:
    """Return the next page in the order of tracking ids, which never changes (R98)."""
    if not _can_match(wanted):
        return JobPage((), None)
    found = store.jobs.find(_queries.wanted_jobs(wanted, after)).sort([("_id", 1)])
    documents = await found.limit(min(limit, LIMIT_MAX - 1) + 1).to_list()  # one more tells whether there is more
    jobs: list[JobRecord] = []
    for position, document in enumerate(documents[:limit]):
        await yield_between(position, _BATCH)
        jobs.append(_readable(to_job, document))
    return JobPage(tuple(jobs), str(jobs[-1].tracking_id) if len(documents) > limit else None)


async def count_jobs(store: Store, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
    """Count matching jobs by queue and status."""
    if not _can_match(wanted):
        return {}
    counted = await store.jobs.aggregate(_queries.counting(wanted))
    groups = cast("list[JobCount]", await counted.to_list())
    try:
        return {(group["_id"]["queue_id"], JobStatus(group["_id"]["status"])): group["jobs"] for group in groups}
    except UNREADABLE as error:
        raise StorageRefusedError(
            "a job was damaged by another hand: it has no queue, or its status is none; mend or delete its document"
        ) from error


def to_start(cursor: str | None) -> UUID | None:
    """
    Return after which tracking id *cursor* goes on.

    Raises:
        ValueError: It was not given out by `find_jobs`.
    """
    if cursor is None:
        return None
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


def _readable(convert: Callable[[JobDocument], T], document: JobDocument) -> T:
    try:
        return convert(document)
    except UNREADABLE as error:
        raise StorageRefusedError(
            f"job {document['_id']} was damaged by another hand: {type(error).__name__}: {error}; mend or delete its "
            f"document"
        ) from error
