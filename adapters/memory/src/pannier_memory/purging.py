"""Purging: a bounded step of marking what has expired and deleting what has been kept long enough."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pannier.records import StaleJobs
from pannier.transitions import is_expirable, is_leased, is_over
from pannier_memory.store import Queue, Store

if TYPE_CHECKING:
    from pannier_memory.agenda import Entry


def mark_expired(store: Store, stale: StaleJobs) -> int:
    """Mark at most `stale.limit` expirable jobs EXPIRED; return how many."""
    marked = 0
    for queue in _queues(store, stale):
        leased: list[Entry] = []
        while marked < stale.limit and (entry := queue.expiring.first()) is not None and entry.at <= stale.now:
            queue.expiring.pop()
            job = store.jobs[entry.key]
            if is_leased(job, stale.now):  # not before its lease ends (R73); looked at again next time
                leased.append(entry)
            elif is_expirable(job, stale.now):
                store.expire(job, now=stale.now)
                marked += 1
        for entry in leased:
            queue.expiring.add(entry)
    return marked


def delete_over(store: Store, stale: StaleJobs) -> int:
    """Delete at most `stale.limit` complete jobs whose retention is over; return how many."""
    deleted = 0
    for queue in _queues(store, stale):
        for status in stale.keep:
            finished = queue.finished[status]
            while deleted < stale.limit and (entry := finished.first()) is not None:
                job = store.jobs[entry.key]
                if not is_over(job, stale):
                    break
                finished.pop()
                store.delete(job)
                deleted += 1
    return deleted


def _queues(store: Store, stale: StaleJobs) -> Iterator[Queue]:
    for queue_id in list(store.queues) if stale.queue_ids is None else stale.queue_ids:
        if queue_id in store.queues:
            yield store.queues[queue_id]
