"""Single steps of a job's life, for tests that follow one job at a time."""

from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Payload
from pannier.settlements import Outcome, Settlement
from pannier.storage import JobStorageProvider
from pannier_testing.builders import LEASE, SECOND, T0, WORKER, claim_of, retry
from pannier_testing.checks import Checks
from pannier_testing.rules import Need
from pannier_testing.trial import Trial, results_of

DAY = timedelta(days=1)


async def claim(
    storage: JobStorageProvider,
    *queue_ids: str,
    now: datetime = T0,
    limit: int = 100,
    worker: str = WORKER,
    lease_for: timedelta = LEASE,
) -> list[JobRecord]:
    """Claim once, and return the jobs that were taken."""
    asked = claim_of(*queue_ids, now=now, limit=limit, worker=worker, lease_for=lease_for)
    return list((await storage.claim_jobs(asked)).jobs)


async def claimed_ids(storage: JobStorageProvider, *queue_ids: str, now: datetime = T0, limit: int = 100) -> list[UUID]:
    """Claim once, and return the ids of the jobs that were taken."""
    return [job.tracking_id for job in await claim(storage, *queue_ids, now=now, limit=limit)]


async def settle(storage: JobStorageProvider, job: JobRecord, outcome: Outcome, *, now: datetime = T0) -> bool:
    """Settle the attempt that *job* was claimed for; return whether it was accepted."""
    return job.lease not in await storage.settle_jobs([Settlement(job.lease, outcome)], now=now)


async def must_settle(
    check: Checks, storage: JobStorageProvider, job: JobRecord, outcome: Outcome, *, now: datetime = T0
) -> None:
    """Settle the attempt that *job* was claimed for, which must be accepted."""
    check.true(
        await settle(storage, job, outcome, now=now),
        f"the holder of a lease that stands can settle it as {type(outcome).__name__}",
        expected="no refused lease",
        seen=f"{job.lease} was refused",
    )


async def must_refuse(
    check: Checks, storage: JobStorageProvider, job: JobRecord, outcome: Outcome, why: str, *, now: datetime = T0
) -> None:
    """Settle the attempt that *job* was claimed for, which must be refused; *why* is told where it is not."""
    check.true(
        not await settle(storage, job, outcome, now=now),
        f"{why}: settling it as {type(outcome).__name__} is refused",
        expected=f"{job.lease} among the refused",
        seen="it was accepted",
    )


async def must_have_lost(
    check: Checks, storage: JobStorageProvider, job: JobRecord, why: str, *, now: datetime = T0
) -> None:
    """Renew the lease of *job*, which must be lost; *why* is told where it is not."""
    check.true(
        not await renew(storage, job, now=now),
        f"{why}: renewing its lease is refused",
        expected=f"{job.lease} among the lost",
        seen="it was renewed",
    )


async def renew(
    storage: JobStorageProvider, job: JobRecord, *, now: datetime = T0, lease_for: timedelta = LEASE
) -> bool:
    """Renew the lease that *job* was claimed with; return whether it still stood."""
    return job.lease not in await storage.renew_leases([job.lease], now=now, lease_for=lease_for)


async def cancelled(storage: JobStorageProvider, job: JobRecord, *, now: datetime = T0) -> Cancellation:
    """Cancel *job* and return the answer."""
    return await storage.cancel_job(job.tracking_id, now=now)


async def purge(
    storage: JobStorageProvider,
    *statuses: JobStatus,
    now: datetime,
    keep: timedelta = timedelta(0),
    queue_ids: frozenset[str] | None = None,
    limit: int = 1000,
) -> Purged:
    """Do one purge step; what has one of *statuses* is kept for *keep*, everything else for ever."""
    stale = StaleJobs(now=now, keep=dict.fromkeys(statuses, keep), queue_ids=queue_ids, limit=limit)
    return await storage.purge_stale_jobs(stale)


async def take(storage: JobStorageProvider, claim: Claim) -> list[JobRecord]:
    """Claim as the only claimer, until the limits of *claim* are reached together or nothing more is due."""
    taken: list[JobRecord] = []
    for _ in range(200):
        claimed = await storage.claim_jobs(claim)
        taken += claimed.jobs
        limits = [
            evolve(demand, limit=max(0, demand.limit - sum(job.queue_id in demand.queue_ids for job in claimed.jobs)))
            for demand in claim.demands
        ]
        claim = evolve(claim, demands=tuple(limits))
        is_over = claimed.next_due is None or claimed.next_due > claim.now
        if is_over or not any(demand.limit for demand in claim.demands):
            break
    return taken


async def taken_in_turn(storage: JobStorageProvider, *queue_ids: str, now: datetime, count: int) -> list[UUID]:
    """Claim *count* times one job, as the only claimer, each with a lease that outlasts the test."""
    claim = claim_of(*queue_ids, limit=1, now=now, lease_for=timedelta(days=100))
    return [job.tracking_id for _ in range(count) for job in await take(storage, claim)]


async def tried_twice(trial: Trial, storage: JobStorageProvider) -> JobRecord:
    """Return a job that was retried, has lapsed and is running again, with an error, progress and an expiry."""
    fresh = trial.job(trial.queue(), key="kept", metadata={"tenant": "acme"}, expire_on=T0 + DAY, priority=3)
    job = await trial.started(storage, fresh)
    await must_settle(trial.check, storage, job, retry(T0 + SECOND))
    await claim(storage, job.queue_id, now=T0 + SECOND)
    [job] = await claim(storage, job.queue_id, now=T0 + SECOND + LEASE)
    if not trial.offers(Need.RESULTS):
        return job
    await results_of(storage).store_progress(job.lease, Payload("half way"))
    return evolve(job, progress=Payload("half way"))
