"""Storages that break a rule of section C."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim, Claimed, Demand
from pannier.instants import to_microseconds
from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_memory, on_model, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay

MICROSECOND = timedelta(microseconds=1)


def whole_seconds(at: datetime) -> datetime:
    """Cut off what is less than a second."""
    return at.replace(microsecond=0)


@on_model("R19")
class StartsTooLate(Model):
    """Compares a start with `<` where `<=` is meant."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Compare wrongly."""
        return job.dequeue_after < now and self.is_fresh(job, now)

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Say the instant at which such a comparison holds."""
        due = super().next_due(claim, taken)
        return due and due + MICROSECOND


@on_memory("R19")
class StartsASecondEarly(Relay):
    """Looks a second ahead."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim for the coming second."""
        return await super().claim_jobs(evolve(claim, now=claim.now + timedelta(seconds=1)))


@on_model("R20")
class CutsStartsToSeconds(Model):
    """Keeps `execute_after` in whole seconds, rounded down."""

    def store_one(self, job: JobRecord) -> UUID:
        """Cut it."""
        standing = super().store_one(job)
        kept = self.jobs[standing]
        if kept.fence == 0:
            self.put(evolve(kept, dequeue_after=whole_seconds(kept.dequeue_after)))
        return standing


@on_model("R20")
class RoundsStartsToMilliseconds(Model):
    """Keeps times in milliseconds, rounded to the nearest, and says that it keeps microseconds."""

    def up(self, at: datetime) -> datetime:
        """Round as a driver does."""
        return at + timedelta(microseconds=round(at.microsecond, -3) - at.microsecond)


@on_model("R20")
class CutsLeases(Model):
    """Keeps the ends of leases in whole milliseconds, rounded down."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Cut the end."""
        leased = super().leased(job, claim)
        ends = leased.dequeue_after
        return evolve(leased, dequeue_after=ends.replace(microsecond=ends.microsecond // 1000 * 1000))


@on_model("R21")
class IncludesTheExpiry(Model):
    """Compares an expiry with `<=` where `<` is meant."""

    def is_fresh(self, job: JobRecord, now: datetime) -> bool:
        """Compare wrongly."""
        return job.expire_on is None or now <= job.expire_on


@on_model("R21")
class ClaimsWhatHasExpired(Model):
    """Leaves expiry to the purge."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Compare the start only."""
        return job.dequeue_after <= now


@on_model("R21")
class ExpiresALittleEarly(Model):
    """Lets a purge mark jobs a microsecond before they expire."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Look ahead."""
        return super().purge(evolve(stale, now=stale.now + MICROSECOND))


class ClaimsWhatHasEnded(Model):
    """Takes jobs of one terminal status to be waiting."""

    ended: JobStatus

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Count those in."""
        ended = [job for job in self.jobs.values() if job.status is self.ended and job.queue_id in queue_ids]
        return super().unfinished(queue_ids) + ended

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Begin again."""
        if job.status is self.ended:
            job = evolve(job, status=JobStatus.PENDING, finished_at=None)
        return super().leased(job, claim)


@on_model("R22")
class ClaimsFailedJobs(ClaimsWhatHasEnded):
    """Takes FAILED jobs to be waiting for another attempt."""

    ended = JobStatus.FAILED


@on_model("R22")
class ClaimsCancelledJobs(ClaimsWhatHasEnded):
    """Takes CANCELLED jobs to be waiting."""

    ended = JobStatus.CANCELLED


@on_model("R22")
class GivesAWorkerItsOwnJobsAgain(Model):
    """Takes no lease of the asking worker to be alive."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Begin with what the worker has."""
        queue_ids = {queue_id for demand in claim.demands for queue_id in demand.queue_ids}
        own = [job for job in self.unfinished(queue_ids) if job.worker_id == claim.worker_id]
        limit = sum(demand.limit for demand in claim.demands)
        chosen = [*own, *(job for job in super().choose(claim) if job not in own)]
        return chosen[:limit]


@on_model("R23")
class HelpsOutInOtherQueues(Model):
    """Takes another queue's jobs where its own have none."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Look elsewhere."""
        chosen = super().choose(claim)
        if chosen or not any(demand.limit for demand in claim.demands):
            return chosen
        due = [job for job in self.unfinished({job.queue_id for job in self.jobs.values()}) if job.fence == 0]
        return [job for job in due if self.is_claimable(job, claim.now)][:1]


@on_model("R23")
class MatchesQueuesByPrefix(Model):
    """Finds queues with LIKE 'name%'."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Match the beginning."""
        wanted = tuple(queue_ids)
        return [job for job in self.jobs.values() if job.queue_id.startswith(wanted) and job.finished_at is None]


@on_sqlite("R23")
class AsksForTheFirstQueueOnly(TransactionalRelay):
    """Looks at the first queue of each demand."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Forget the aliases."""
        demands = tuple(Demand(demand.queue_ids[:1], demand.limit) for demand in claim.demands)
        return await super().claim_jobs(evolve(claim, demands=demands))


@on_model("R23")
class AsksForAHundredQueues(Model):
    """Looks at the first hundred queues of each demand, as many as go into its statement."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Cut the list."""
        return super().unfinished(list(queue_ids)[:100])


@on_model("R23")
class AnswersAHundredDemands(Model):
    """Looks at the first hundred demands of a claim."""

    def claim(self, claim: Claim) -> Claimed:
        """Cut the list."""
        return super().claim(evolve(claim, demands=claim.demands[:100]))


@on_memory("R24")
class GivesOneMore(Relay):
    """Returns a job more than was asked for, where anything was."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Ask for limit + 1."""
        demands = (Demand(demand.queue_ids, demand.limit + (demand.limit > 0)) for demand in claim.demands)
        return await super().claim_jobs(evolve(claim, demands=tuple(demands)))


@on_model("R23")
class StopsAtAnEmptyDemand(Model):
    """Ends a claim at the first demand for which nothing is due."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Ask demand by demand."""
        chosen: list[JobRecord] = []
        for demand in claim.demands:
            found = super().choose(evolve(claim, demands=(demand,)))
            chosen += found
            if not found:
                break
        return chosen


@on_model("R23")
class AsksForFourDemands(Model):
    """Has places for four demands in its statement."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Leave the others out."""
        return super().choose(evolve(claim, demands=claim.demands[:4]))


@on_model("R24")
class LimitsEachName(Model):
    """Gives each name of a demand the whole limit."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Ask for each queue alone."""
        alone = tuple(Demand((queue_id,), demand.limit) for demand in claim.demands for queue_id in demand.queue_ids)
        return super().choose(evolve(claim, demands=alone))


@on_model("R24")
class TakesNoLimitToBeNone(Model):
    """Takes the limit 0 to mean everything."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Write `limit or None`."""
        demands = tuple(Demand(demand.queue_ids, demand.limit or 1000) for demand in claim.demands)
        return super().choose(evolve(claim, demands=demands))


@on_model("R24")
class AddsLapsedLeasesToTheLimit(Model):
    """Returns lapsed leases beyond the limit."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Take the lapsed ones for nothing."""
        chosen = super().choose(claim)
        queue_ids = {queue_id for demand in claim.demands if demand.limit for queue_id in demand.queue_ids}
        lapsed = [job for job in self.unfinished(queue_ids) if job.status is JobStatus.RUNNING]
        due = [job for job in lapsed if self.is_claimable(job, claim.now)]
        return chosen + [job for job in due if job not in chosen]


@on_model("R25")
class TakesTheLastFirst(Model):
    """Takes the youngest job first."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Turn the time round."""
        return (*super().turn(job)[:2], -job.dequeue_after.timestamp(), job.tracking_id)


@on_model("R25")
class OrdersById(Model):
    """Orders jobs of one priority by their ids."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Leave the time out."""
        return (*super().turn(job)[:2], job.tracking_id)


@on_model("R25")
class QueuesLapsedLeasesUp(Model):
    """Lets lapsed leases wait behind the whole backlog."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Order all jobs alike, by priority and time."""
        return (-job.priority, job.dequeue_after, job.tracking_id)


@on_model("R25")
class PutsHighPrioritiesBeforeLapsedLeases(Model):
    """Takes lapsed leases by priority, not by their ends."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Order lapsed leases as if they waited."""
        first = 0 if job.status is JobStatus.RUNNING else 1
        return (first, -job.priority, job.dequeue_after, job.tracking_id)


@on_model("R25")
class BreaksTiesByAge(Model):
    """Breaks ties by the order of storing, not by tracking id."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Trust a stable sort."""
        return super().turn(job)[:3]


@on_model("R25")
class TakesNameAfterName(Model):
    """Empties the first queue of a demand before it looks at the next one."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Go through the names."""
        chosen: list[JobRecord] = []
        for demand in claim.demands:
            room = demand.limit
            for queue_id in demand.queue_ids:
                taken = super().choose(evolve(claim, demands=(Demand((queue_id,), room),)))
                room -= len(taken)
                chosen += taken
        return chosen


@on_model("R26")
class TakesLowPrioritiesFirst(Model):
    """Takes the lowest priority first."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Forget the sign."""
        first, priority, *rest = super().turn(job)
        return (first, -priority if isinstance(priority, int) else priority, *rest)


@on_model("R25")
class OrdersLapsedLeasesBySeconds(Model):
    """Takes lapsed leases by the seconds in which they ended."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Cut what is less than a second."""
        if job.status is JobStatus.RUNNING:
            return (0, 0, whole_seconds(job.dequeue_after), job.tracking_id)
        return super().turn(job)


@on_model("R26")
class OrdersByOneNumber(Model):
    """Makes one floating-point number of priority and time, the score of a sorted set, which has too few digits."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Add both up."""
        if job.status is JobStatus.RUNNING:
            return super().turn(job)
        return (1, -job.priority * 1e16 + to_microseconds(job.dequeue_after), job.tracking_id)


@on_model("R26")
class ClampsPriorities(Model):
    """Knows priorities from 0 to 9 only."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Clamp what lies beyond."""
        return super().turn(evolve(job, priority=min(max(job.priority, 0), 9)))


@on_model("R26")
class OrdersByCreation(Model):
    """Orders jobs of one priority by when they were made."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Take the wrong time."""
        first, priority, at, tracking_id = super().turn(job)
        return (first, priority, job.created_at if first else at, at, tracking_id)


@on_model("R26")
class ForgetsThePriorityOfARetry(Model):
    """Takes a retried job as one of priority 0."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Look up the retry time only."""
        return super().turn(evolve(job, priority=0) if job.errors else job)


@on_model("R26")
class PutsReleasedJobsLast(Model):
    """Puts a released job behind the backlog."""

    def waiting(self, job: JobRecord, at: datetime) -> JobRecord:
        """Let it wait from the end of its lease on."""
        released = at == job.execute_after
        return super().waiting(job, job.dequeue_after - timedelta(seconds=30) if released else at)


@on_model("R26")
class LetsRetriedJobsKeepTheirPlace(Model):
    """Orders by `execute_after`, so that a retried job is taken before those that waited longer."""

    def turn(self, job: JobRecord) -> tuple[object, ...]:
        """Take the wrong time."""
        if job.status is JobStatus.RUNNING:
            return super().turn(job)
        return (1, -job.priority, job.execute_after, job.tracking_id)


@on_model("R27")
class LimitsBeforeItLooks(Model):
    """Takes the first jobs of the line, and of those what is eligible."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Apply LIMIT before WHERE."""
        chosen: list[JobRecord] = []
        for demand in claim.demands:
            line = sorted(self.unfinished(demand.queue_ids), key=lambda job: (-job.priority, job.execute_after))
            chosen += [job for job in line[: 10 * demand.limit] if self.is_claimable(job, claim.now)][: demand.limit]
        return chosen


@on_model("R27")
class LooksAtTheHeadOfTheLine(Model):
    """Looks at no more than the first 1,500 jobs of the line."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Apply a generous LIMIT before WHERE."""
        chosen: list[JobRecord] = []
        for demand in claim.demands:
            line = sorted(self.unfinished(demand.queue_ids), key=self.turn)[:1_500]
            chosen += [job for job in line if self.is_claimable(job, claim.now)][: demand.limit]
        return chosen


@on_reference("R27")
class ClaimsAtMostEight(ReferenceProvider):
    """Gives at most 8 jobs an answer, and does not say that more are due."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Cut the limits."""
        demands = tuple(Demand(demand.queue_ids, min(demand.limit, 8)) for demand in claim.demands)
        claimed = await super().claim_jobs(evolve(claim, demands=demands))
        return evolve(claimed, next_due=None)
