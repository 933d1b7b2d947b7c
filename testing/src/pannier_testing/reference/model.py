"""
The reference model: what every storage answers, as a pure, synchronous program that is read as the specification.

It shares no code with `pannier.transitions` or any adapter, on purpose: it is what they are compared with. It is
slow (a claim looks at every job) and knows nothing of tasks, threads, processes or files. Refusals are return values.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

from attrs import evolve

from pannier import storage as r
from pannier.records import JobRecord, JobStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


class Model:
    """
    All jobs of one namespace.

    Attributes:
        jobs: Every record, by tracking id.
        keys: Which job stands for a key, by queue id and key.
        grid: The resolution of time; instants are rounded so that nothing happens early.
    """

    def __init__(self, grid: timedelta = timedelta(microseconds=1)) -> None:
        self.jobs: dict[UUID, JobRecord] = {}
        self.keys: dict[tuple[str, str], UUID] = {}
        self.grid = grid

    def down(self, at: datetime) -> datetime:
        """The last instant of the grid that is not after *at*."""
        return at - (at - EPOCH) % self.grid

    def up(self, at: datetime) -> datetime:
        """The first instant of the grid that is not before *at*."""
        return at + (EPOCH - at) % self.grid

    def put(self, job: JobRecord) -> JobRecord:
        """Keep *job* as the state of its tracking id."""
        self.jobs[job.tracking_id] = job
        return job

    # Storing: a stored tracking id stands, then a stored key; else the job is new.

    def store(self, jobs: Iterable[JobRecord]) -> list[UUID]:
        return [self.store_one(job) for job in jobs]

    def store_one(self, job: JobRecord) -> UUID:
        standing = self.standing(job)
        if standing is not None:
            return standing
        starts = self.up(job.execute_after)
        ends = None if job.expire_on is None else self.down(job.expire_on)
        new = evolve(
            job, execute_after=starts, dequeue_after=starts, expire_on=ends, created_at=self.down(job.created_at)
        )
        if job.idempotency_key is not None:
            self.keys[job.queue_id, job.idempotency_key] = job.tracking_id
        return self.put(new).tracking_id

    def standing(self, job: JobRecord) -> UUID | None:
        if job.tracking_id in self.jobs:
            return job.tracking_id
        return None if job.idempotency_key is None else self.keys.get((job.queue_id, job.idempotency_key))

    # Claiming: choose by turn, then lease. The two are apart so that a wrong storage can be built from them.

    def claim(self, claim: r.Claim) -> r.Claimed:
        return self.grant(self.choose(claim), claim)

    def choose(self, claim: r.Claim) -> list[JobRecord]:
        now = self.down(claim.now)
        chosen: list[JobRecord] = []
        for demand in claim.demands:
            due = [job for job in self.unfinished(demand.queue_ids) if self.is_claimable(job, now)]
            chosen += sorted(due, key=self.turn)[: demand.limit]
        return chosen

    def grant(self, chosen: Sequence[JobRecord], claim: r.Claim) -> r.Claimed:
        leased = tuple(self.put(self.leased(job, claim)) for job in chosen)
        return r.Claimed(jobs=leased, next_due=self.next_due(claim, {job.tracking_id for job in leased}))

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        return [job for job in self.jobs.values() if job.queue_id in queue_ids and job.finished_at is None]

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        return job.dequeue_after <= now and self.is_fresh(job, now)

    def is_fresh(self, job: JobRecord, now: datetime) -> bool:
        return job.expire_on is None or now < job.expire_on

    def is_expirable(self, job: JobRecord, now: datetime) -> bool:
        is_leased = job.status is JobStatus.RUNNING and now < job.dequeue_after
        return job.finished_at is None and not self.is_fresh(job, now) and not is_leased

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        if job.status is JobStatus.RUNNING:
            return (0, 0, job.dequeue_after, job.tracking_id)
        return (1, -job.priority, job.dequeue_after, job.tracking_id)

    def leased(self, job: JobRecord, claim: r.Claim) -> JobRecord:
        return evolve(
            job,
            status=JobStatus.RUNNING,
            attempt=job.attempt + 1,
            lapses=job.lapses + (job.status is JobStatus.RUNNING),
            fence=job.fence + 1,
            worker_id=claim.worker_id,
            dequeue_after=self.lease_end(claim.now, claim.lease_for),
        )

    def lease_end(self, now: datetime, lease_for: timedelta) -> datetime:
        if lease_for > LAST - now:
            raise ValueError(f"a lease of {lease_for} from {now} ends after the year 9999")
        return self.up(now + lease_for)

    def next_due(self, claim: r.Claim, taken: set[UUID]) -> datetime | None:
        """The exact bound: when the first of the jobs that were not taken becomes claimable."""
        asked = self.unfinished([queue_id for demand in claim.demands for queue_id in demand.queue_ids])
        waiting = [job for job in asked if job.tracking_id not in taken and self.is_fresh(job, self.down(claim.now))]
        dues = [job.dequeue_after for job in waiting if self.is_fresh(job, job.dequeue_after)]
        first = min(dues, default=None)
        return first if first is not None and first - claim.now <= claim.look_ahead else None

    # Writing under a lease: a lapsed one counts until somebody ends it.

    def holds(self, lease: r.Lease) -> bool:
        job = self.jobs.get(lease.tracking_id)
        return job is not None and job.status is JobStatus.RUNNING and job.fence == lease.fence

    def renew(self, leases: Iterable[r.Lease], now: datetime, lease_for: timedelta) -> frozenset[r.Lease]:
        lost = set()
        for lease in leases:
            if self.holds(lease):
                self.put(evolve(self.jobs[lease.tracking_id], dequeue_after=self.lease_end(now, lease_for)))
            else:
                lost.add(lease)
        return frozenset(lost)

    def settle(self, settlements: Iterable[r.Settlement], now: datetime) -> frozenset[r.Lease]:
        return frozenset(settlement.lease for settlement in settlements if not self.settle_one(settlement, now))

    def settle_one(self, settlement: r.Settlement, now: datetime) -> bool:
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is None or job.fence != settlement.lease.fence:
            return False
        if job.status is not JobStatus.RUNNING:  # a repeat, if this is what it led to: accepted, changes nothing
            return job.status is self.leads_to(job, settlement.outcome)
        self.put(self.settled(job, settlement.outcome, self.down(now)))
        return True

    def leads_to(self, job: JobRecord, outcome: r.Outcome) -> JobStatus:
        match outcome:
            case r.Succeeded():
                return JobStatus.SUCCEEDED
            case r.Failed():
                return JobStatus.FAILED
            case r.Retry(at=at) if job.expire_on is not None and job.expire_on <= self.up(at):
                return JobStatus.FAILED
            case r.Retry() | r.Release():
                return JobStatus.PENDING
            case _:
                assert_never(outcome)

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        match outcome:
            case r.Succeeded(result=result):
                return evolve(job, status=JobStatus.SUCCEEDED, result=result, progress=None, lapses=0, finished_at=now)
            case r.Failed(error=error):
                return self.failed(job, error, now)
            case r.Retry(error=error) if self.leads_to(job, outcome) is JobStatus.FAILED:
                return self.failed(job, error, now)
            case r.Retry(at=at, error=error):
                attempt = job.attempt - job.lapses
                return evolve(self.waiting(job, self.up(at)), attempt=attempt, lapses=0, errors=self.noted(job, error))
            case r.Release():
                return evolve(self.waiting(job, job.execute_after), attempt=job.attempt - 1)
            case _:
                assert_never(outcome)

    def waiting(self, job: JobRecord, at: datetime) -> JobRecord:
        return evolve(job, status=JobStatus.PENDING, dequeue_after=at, worker_id=None)

    def failed(self, job: JobRecord, error: r.JobError, now: datetime) -> JobRecord:
        return evolve(job, status=JobStatus.FAILED, lapses=0, finished_at=now, errors=self.noted(job, error))

    def noted(self, job: JobRecord, error: r.JobError) -> tuple[r.JobError, ...]:
        return (*job.errors, error)[-10:]

    # Without a lease.

    def cancel(self, tracking_id: UUID, now: datetime) -> r.Cancellation:
        job = self.jobs.get(tracking_id)
        if job is None:
            return r.Cancellation.NOT_FOUND
        if job.finished_at is None:
            self.put(evolve(job, status=JobStatus.CANCELLED, finished_at=self.down(now)))
            return r.Cancellation.CANCELLED
        is_cancelled = job.status is JobStatus.CANCELLED
        return r.Cancellation.CANCELLED if is_cancelled else r.Cancellation.ALREADY_COMPLETE

    def get(self, tracking_id: UUID) -> JobRecord | None:
        return self.jobs.get(tracking_id)

    def purge(self, stale: r.StaleJobs) -> r.Purged:
        now = self.down(stale.now)
        wanted = [job for job in self.jobs.values() if stale.queue_ids is None or job.queue_id in stale.queue_ids]
        over = [job for job in wanted if self.is_over(job, stale, now)][: stale.limit]
        expired = [job for job in wanted if self.is_expirable(job, now)][: stale.limit]
        for job in over:
            self.delete(job)
        for job in expired:
            self.put(evolve(job, status=JobStatus.EXPIRED, finished_at=now))
        return r.Purged(len(expired), len(over))

    def is_over(self, job: JobRecord, stale: r.StaleJobs, now: datetime) -> bool:
        return (
            job.finished_at is not None and job.status in stale.keep and stale.keep[job.status] <= now - job.finished_at
        )

    def delete(self, job: JobRecord) -> None:
        del self.jobs[job.tracking_id]
        if job.idempotency_key is not None:
            del self.keys[job.queue_id, job.idempotency_key]

    # The add-ons "results" and "inspect".

    def report(self, lease: r.Lease, progress: r.Payload) -> bool:
        if not self.holds(lease):
            return False
        self.put(evolve(self.jobs[lease.tracking_id], progress=progress))
        return True

    def result(self, tracking_id: UUID) -> r.StoredResult | None:
        job = self.jobs.get(tracking_id)
        if job is None:
            return None
        return r.StoredResult(status=job.status, progress=job.progress, result=job.result, errors=job.errors)

    def find(self, wanted: r.JobFilter) -> list[JobRecord]:
        return sorted((job for job in self.jobs.values() if self.matches(job, wanted)), key=lambda j: j.tracking_id)

    def matches(self, job: JobRecord, wanted: r.JobFilter) -> bool:
        return (
            (wanted.queue_ids is None or job.queue_id in wanted.queue_ids)
            and (wanted.statuses is None or job.status in wanted.statuses)
            and wanted.metadata.items() <= job.metadata.items()
        )

    def count(self, wanted: r.JobFilter) -> dict[tuple[str, JobStatus], int]:
        counts: dict[tuple[str, JobStatus], int] = {}
        for job in self.find(wanted):
            counts[job.queue_id, job.status] = counts.get((job.queue_id, job.status), 0) + 1
        return counts

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> r.Requeue:
        job = self.jobs.get(tracking_id)
        if job is None:
            return r.Requeue.NOT_FOUND
        if job.finished_at is None:
            return r.Requeue.NOT_COMPLETE
        if job.status is JobStatus.SUCCEEDED:
            return r.Requeue.ALREADY_SUCCEEDED
        starts, ends = self.up(now), None if expire_on is None else self.down(expire_on)
        fresh = evolve(job, status=JobStatus.PENDING, execute_after=starts, expire_on=ends, finished_at=None)
        cleared = evolve(fresh, attempt=0, lapses=0, progress=None, result=None, fence=job.fence + 1)
        self.put(self.waiting(cleared, starts))
        return r.Requeue.REQUEUED
