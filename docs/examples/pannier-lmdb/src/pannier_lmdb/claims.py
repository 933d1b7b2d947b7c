"""Claiming: jobs are read in the order of the index, and only those that are due."""

from collections.abc import Collection, Iterator
from datetime import datetime
from heapq import merge
from itertools import chain, islice
from operator import attrgetter
from typing import Final
from uuid import UUID

from attrs import evolve
from pannier.storage import Claim, Claimed, Demand, JobRecord, Unreadable, transitions

from pannier_lmdb import layout
from pannier_lmdb.jobs import Jobs

# How many expired jobs a claim marks for a demand before it leaves the others to the next one.
MOST_EXPIRED: Final = 1000


def claim_jobs(jobs: Jobs, claim: Claim) -> Claimed:
    """Lease due jobs, and find out when others will be."""
    leased = [job for demand in claim.demands for job in _lease(jobs, demand, claim)]
    readable: list[JobRecord] = []
    unreadable: list[Unreadable] = []
    for job in leased:
        try:
            readable.append(evolve(job, command=jobs.get_command(job.tracking_id)))
        except ValueError as error:
            unreadable.append(Unreadable(job.lease, job.queue_id, str(error)))
    next_due = _next_due(jobs, claim, {job.tracking_id for job in leased})
    return Claimed(jobs=tuple(readable), unreadable=tuple(unreadable), next_due=next_due)


def _lease(jobs: Jobs, demand: Demand, claim: Claim) -> list[JobRecord]:
    """Lease what *demand* asks for; mark what has expired before it."""
    leased: list[JobRecord] = []
    for job in islice(_due(jobs, demand, claim.now), demand.limit + MOST_EXPIRED):
        if not transitions.is_claimable(job, claim.now):
            jobs.replace(job, transitions.expire(job, now=claim.now))
        elif len(leased) == demand.limit:
            break
        else:
            taken = transitions.claim(job, worker_id=claim.worker_id, now=claim.now, lease_for=claim.lease_for)
            jobs.replace(job, taken)
            leased.append(taken)
    return leased


def _due(jobs: Jobs, demand: Demand, now: datetime) -> Iterator[JobRecord]:
    """Iterate over the lapsed leases of all queues of *demand*, then over their due PENDING jobs, each in its order."""
    lapsed = (jobs.iterate(layout.leased(queue_id), until=now) for queue_id in demand.queue_ids)
    yield from merge(*lapsed, key=attrgetter("dequeue_after"))
    waiting = (_due_of_queue(jobs, queue_id, now) for queue_id in demand.queue_ids)
    yield from merge(*waiting, key=lambda job: (-job.priority, job.dequeue_after, job.tracking_id))


def _due_of_queue(jobs: Jobs, queue_id: str, now: datetime) -> Iterator[JobRecord]:
    """Iterate over the due PENDING jobs of one queue, priority by priority."""
    for priority in jobs.lines(layout.pending(queue_id), length=1):
        yield from jobs.iterate(priority, until=now)


def _next_due(jobs: Jobs, claim: Claim, leased: Collection[UUID]) -> datetime | None:
    """Return the first instant at which a job of the asked queues that is not one of *leased* becomes due."""
    fronts = chain.from_iterable(
        [jobs.iterate(layout.leased(queue_id)), *map(jobs.iterate, jobs.lines(layout.pending(queue_id), length=1))]
        for demand in claim.demands
        for queue_id in demand.queue_ids
    )
    firsts = (next((job for job in front if job.tracking_id not in leased), None) for front in fronts)
    return min((job.dequeue_after for job in firsts if job is not None), default=None)
