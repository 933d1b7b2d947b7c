"""Ending and beginning again: cancel, requeue, purge."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pymongo import DeleteMany, UpdateMany, UpdateOne

from pannier.errors import StorageRefusedError
from pannier.errortext import to_tree
from pannier.inspection import Requeue
from pannier.instants import round_down
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobError, JobStatus
from pannier.transitions import cancel_answer, requeue_answer
from pannier_mongo import _queries
from pannier_mongo._connection import Session, Store
from pannier_mongo._documents import RESOLUTION, JobDocument, is_text

logger = logging.getLogger("pannier.mongo")

CHUNK: Final = 500
"""Jobs in one transaction."""

LIMIT_MAX: Final = 2**31 - 1


async def cancel(store: Store, tracking_id: UUID, now: datetime) -> Cancellation:
    """End an unfinished job at once and for good."""
    while True:
        update = _queries.ended(JobStatus.CANCELLED, now)
        if (await store.jobs.update_one(_queries.unfinished(tracking_id), update)).matched_count:
            return Cancellation.CANCELLED
        answer = cancel_answer(await _status(store, tracking_id))
        if answer is not None:
            return answer
        # It was complete, and has been requeued since.


async def requeue(store: Store, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
    """Make a complete job that did not succeed PENDING again."""
    while True:
        update = _queries.requeued(now=now, expire_on=expire_on)
        if (await store.jobs.update_one(_queries.requeueable(tracking_id), update)).matched_count:
            return Requeue.REQUEUED
        answer = requeue_answer(await _status(store, tracking_id))
        if answer is not None:
            return answer
        # It was unfinished, and has failed or been cancelled since.


async def purge(store: Store, stale: StaleJobs) -> Purged:
    """Delete what has been kept long enough, then mark what has expired, a bounded step of each."""
    if stale.queue_ids is None:
        queue_ids = [queue["_id"] async for queue in store.queues.find({}, {"_id": 1})]
    else:
        queue_ids = sorted(filter(is_text, stale.queue_ids))
    now = round_down(stale.now, RESOLUTION)
    # First: what is marked in this step is not deleted in it (R72).
    deleted = await _delete(store, queue_ids, stale, now)
    return Purged(expired=await _expire(store, queue_ids, now, stale.limit), deleted=deleted)


async def expire_pending(store: Store, ids: Sequence[UUID], now: datetime) -> int:
    """Mark those of some jobs EXPIRED that are pending still and past their time; return how many."""
    update = _queries.ended(JobStatus.EXPIRED, now)
    writes = [
        UpdateMany(_queries.still_stale(portion, JobStatus.PENDING, now), update) for portion in _queries.portions(ids)
    ]
    return (await store.jobs.bulk_write(writes, ordered=False)).matched_count if writes else 0


async def expire_running(store: Store, ids: Sequence[UUID], now: datetime) -> int:
    """Mark those of some jobs EXPIRED whose lease is over, and that nobody is settling at this moment."""

    async def mark(part: Sequence[UUID], session: Session | None) -> int:
        update = _queries.ended(JobStatus.EXPIRED, now)
        writes = [UpdateMany(_queries.lapsed_stale(portion, now), update) for portion in _queries.portions(part)]
        return (await store.jobs.bulk_write(writes, ordered=False, session=session)).matched_count

    marked = 0
    for start in range(0, len(ids), CHUNK):
        parts, _ = await store.without_waiting(ids[start : start + CHUNK], lambda tracking_id: tracking_id, mark)
        marked += sum(parts)
    return marked


async def bury(store: Store, documents: Sequence[JobDocument], now: datetime) -> None:
    """
    End jobs as failed that nobody can claim, since another hand has damaged what a claim counts on.

    What else is stored of them stays. A worker can't do it: their fences may be no numbers, so that no lease fits.
    """
    reason = "what is stored of its id, status, expire_on, attempt, lapses or fence was damaged by another hand"
    for document in documents:
        logger.warning("job %r of queue %r has failed: %s", document["_id"], document["queue_id"], reason)
    error = to_tree(JobError(attempt=1, at=now, kind="pannier.errors.DecodingError", message=reason))
    writes = [UpdateOne(_queries.standing(document), _queries.failed(error, now)) for document in documents]
    await store.jobs.bulk_write(writes, ordered=False)


def by_state(documents: Iterable[JobDocument]) -> tuple[list[UUID], list[UUID]]:
    """Return the ids of pending *documents*, and those of running ones."""
    pending: list[UUID] = []
    running: list[UUID] = []
    for document in documents:
        (running if document["status"] == JobStatus.RUNNING else pending).append(document["_id"])
    return pending, running


async def _delete(store: Store, queue_ids: Sequence[str], stale: StaleJobs, now: datetime) -> int:
    room = stale.limit
    for queue_id in queue_ids:
        for status, age in stale.keep.items():
            until = _until(now, age)
            ids = await _stale(store, queue_id, status, until, room)
            if ids:
                found = (_queries.still_stale(portion, status, until) for portion in _queries.portions(ids))
                room -= (await store.jobs.bulk_write(list(map(DeleteMany, found)), ordered=False)).deleted_count
            if not room:
                return stale.limit
    return stale.limit - room


async def _expire(store: Store, queue_ids: Sequence[str], now: datetime, limit: int) -> int:
    room = limit
    for queue_id in queue_ids:
        ids = await _stale(store, queue_id, JobStatus.PENDING, now, room)
        room -= await expire_pending(store, ids, now)
        if room:
            # Of those that run only few have expired: no more than there are slots.
            found = store.latest.find(_queries.stale(queue_id, JobStatus.RUNNING, now), {"dequeue_after": 1})
            ids = [document["_id"] async for document in found if _has_lapsed(document, now)]
            room -= await expire_running(store, ids[:room], now)
        if not room:
            break
    return limit - room


async def _stale(store: Store, queue_id: str, status: JobStatus, until: datetime, limit: int) -> list[UUID]:
    """Return the ids of stale jobs, at most *limit*."""
    found = store.latest.find(_queries.stale(queue_id, status, until), {"_id": 1})
    return [document["_id"] async for document in found.limit(min(limit, LIMIT_MAX))]


def _until(now: datetime, age: timedelta) -> datetime:
    """Return until when jobs that are kept for *age* must have finished to be deleted now."""
    try:
        return round_down(now - age, RESOLUTION)
    except OverflowError:  # before the year 1, when nothing has finished
        return _queries.FIRST_INSTANT


async def _status(store: Store, tracking_id: UUID) -> JobStatus | None:
    document = await store.jobs.find_one(_queries.with_id(tracking_id), {"status": 1})
    if document is None:
        return None
    try:
        return JobStatus(document["status"])
    except (ValueError, KeyError) as error:
        raise StorageRefusedError(
            f"job {tracking_id} was damaged by another hand: its status is none; mend or delete its document"
        ) from error


def _has_lapsed(document: JobDocument, now: datetime) -> bool:
    end = document.get("dequeue_after")
    return isinstance(end, datetime) and end <= now  # another hand may have left anything there
