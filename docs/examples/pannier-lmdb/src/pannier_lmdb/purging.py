"""Purging: what has expired is marked, what was kept long enough is removed."""

from collections.abc import Iterator
from itertools import islice

from pannier.storage import JobRecord, Purged, StaleJobs, transitions

from pannier_lmdb import layout
from pannier_lmdb.jobs import Jobs


def purge_stale_jobs(jobs: Jobs, stale: StaleJobs) -> Purged:
    """Carry out one bounded step. What is marked in it is not removed in it, hence the order."""
    deleted = list(islice(_over(jobs, stale), stale.limit))
    for job in deleted:
        jobs.remove(job)
    expired = list(islice(_expirable(jobs, stale), stale.limit))
    for job in expired:
        jobs.replace(job, transitions.expire(job, now=stale.now))
    return Purged(expired=len(expired), deleted=len(deleted))


def _over(jobs: Jobs, stale: StaleJobs) -> Iterator[JobRecord]:
    for queue in _queues(jobs, layout.FINISHED, stale):
        for status in stale.keep:
            for job in jobs.iterate(queue + layout.status_of(status)):
                if not transitions.is_over(job, stale):
                    break  # those behind it ended later
                yield job


def _expirable(jobs: Jobs, stale: StaleJobs) -> Iterator[JobRecord]:
    for queue in _queues(jobs, layout.EXPIRING, stale):
        for job in jobs.iterate(queue, until=stale.now):
            if transitions.is_expirable(job, stale.now):
                yield job


def _queues(jobs: Jobs, index: bytes, stale: StaleJobs) -> Iterator[bytes]:
    if stale.queue_ids is None:
        return jobs.lines(index, length=layout.NAME_LENGTH)
    return (index + layout.name(queue_id) for queue_id in stale.queue_ids)
