"""Ending: marking jobs that have expired, and deleting those that were kept long enough."""

from datetime import datetime, timedelta

from pannier.purging import StaleJobs
from pannier.records import JobRecord
from pannier.transitions import is_leased
from pannier_memory._store import Queue, Store


def delete_over(store: Store, stale: StaleJobs, limit: int) -> int:
    """Delete at most *limit* complete jobs whose retention is over; return how many."""
    deleted = 0
    for queue in _queues(store, stale):
        for status, keep in stale.keep.items():
            ended_by = _before(stale.now, keep)
            if ended_by is None:
                continue
            over = queue.finished[status].pop(ended_by, limit - deleted)
            for name in over:
                store.delete(name)
            deleted += len(over)
    return deleted


def mark_expired(store: Store, stale: StaleJobs, limit: int) -> list[JobRecord]:
    """Mark at most *limit* expirable jobs EXPIRED; return them."""
    marked: list[JobRecord] = []
    for queue in _queues(store, stale):
        while names := queue.expiring.pop(stale.now, limit - len(marked)):
            for job in map(store.jobs.__getitem__, names):
                if is_leased(job, stale.now):  # not before its lease ends (R73)
                    queue.expiring.put(job.tracking_id.int, job.dequeue_after)
                else:
                    marked.append(store.expire(job, now=stale.now))
    return marked


def _queues(store: Store, stale: StaleJobs) -> list[Queue]:
    return store.queues_of(store.queues if stale.queue_ids is None else stale.queue_ids)


def _before(now: datetime, span: timedelta) -> datetime | None:
    try:
        return now - span
    except OverflowError:  # longer than time itself: kept for ever
        return None
