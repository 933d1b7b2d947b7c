"""What the verbs do to jobs, but for claiming, purging and listing: each is carried out in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from pannier.storage import (
    Cancellation,
    JobRecord,
    Lease,
    Payload,
    Requeue,
    Settlement,
    transitions,
)

from pannier_lmdb.jobs import Jobs


def store_jobs(jobs: Jobs, new: Sequence[JobRecord]) -> list[UUID]:
    """Store new jobs; return for each the one that stands."""
    return [_store(jobs, job) for job in new]


def renew_leases(jobs: Jobs, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
    """Move the ends of leases; return those that no longer stand."""
    lost = set()
    for lease in leases:
        job = jobs.get(lease.tracking_id)
        if job is None or not transitions.holds(job, lease):
            lost.add(lease)
        else:
            jobs.replace(job, transitions.renew(job, now=now, lease_for=lease_for))
    return frozenset(lost)


def settle_jobs(jobs: Jobs, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
    """Apply outcomes under their fences; return the leases that were refused."""
    refused = set()
    for settlement in settlements:
        job = jobs.get(settlement.lease.tracking_id)
        settled = None if job is None else transitions.settle(job, settlement, now=now)
        if job is None or settled is None or settled.verdict is transitions.Verdict.REFUSED:
            refused.add(settlement.lease)
        else:
            jobs.replace(job, settled.job)
    return frozenset(refused)


def cancel_job(jobs: Jobs, tracking_id: UUID, *, now: datetime) -> Cancellation:
    """End an unfinished job."""
    job = jobs.get(tracking_id)
    if job is None:
        return Cancellation.NOT_FOUND
    answer, cancelled = transitions.cancel(job, now=now)
    jobs.replace(job, cancelled)
    return answer


def store_progress(jobs: Jobs, lease: Lease, progress: Payload) -> bool:
    """Keep progress; return False where the lease no longer stands."""
    job = jobs.get(lease.tracking_id)
    reported = None if job is None else transitions.report(job, lease, progress)
    if job is None or reported is None:
        return False
    jobs.replace(job, reported)
    return True


def requeue_job(jobs: Jobs, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
    """Make a complete job that did not succeed PENDING again."""
    job = jobs.get(tracking_id)
    if job is None:
        return Requeue.NOT_FOUND
    answer, requeued = transitions.requeue(job, now=now, expire_on=expire_on)
    jobs.replace(job, requeued)
    return answer


def _store(jobs: Jobs, new: JobRecord) -> UUID:
    if jobs.get(new.tracking_id) is not None:
        return new.tracking_id
    standing = None if new.idempotency_key is None else jobs.with_key(new.queue_id, new.idempotency_key)
    if standing is not None:
        return standing
    jobs.add(new)
    return new.tracking_id
