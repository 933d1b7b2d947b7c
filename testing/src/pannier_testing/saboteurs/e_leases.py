"""Storages that break a rule of section E."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim
from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_ledger, on_memory, on_model, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_model("R37")
class HidesAtTheEndOfALease(Model):
    """Lets a lapsed lease hide its job at `dequeue_after` itself."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Compare wrongly."""
        is_held = job.status is JobStatus.RUNNING and now <= job.dequeue_after
        return not is_held and super().is_claimable(job, now)


@on_model("R37")
class LeasesForWholeSeconds(Model):
    """Rounds the length of a lease down to seconds."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Cut what was asked for."""
        return super().leased(
            job, evolve(claim, lease_for=timedelta(seconds=int(claim.lease_for.total_seconds()) or 1))
        )


@on_memory("R37")
class RenewsForWholeSeconds(Relay):
    """Rounds the length of a renewed lease up to seconds."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Give more than was asked for."""
        whole = timedelta(seconds=-(-lease_for // timedelta(seconds=1)))
        return await super().renew_leases(leases, now=now, lease_for=whole)


@on_model("R38")
class KeepsTheAttempt(Model):
    """Does not count an attempt where it takes a lapsed lease over."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Count first claims only."""
        return evolve(super().leased(job, claim), attempt=job.attempt + (job.status is JobStatus.PENDING))


@on_model("R38")
class NeverLetsLeasesLapse(Model):
    """Leaves a running job with its worker for ever."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Look at waiting jobs only."""
        return job.status is JobStatus.PENDING and super().is_claimable(job, now)

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Name no end of a lease."""
        return None


@on_model("R38")
class CountsNoLapses(Model):
    """Does not count lapses."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Leave them out."""
        return evolve(super().leased(job, claim), lapses=0)


@on_model("R38")
class KeepsTheFirstWorker(Model):
    """Leaves the name of the worker that lost its lease."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Write COALESCE(worker_id, :worker_id)."""
        leased = super().leased(job, claim)
        return evolve(leased, worker_id=job.worker_id or leased.worker_id)


@on_model("R39")
class AddsToTheOldEnd(Model):
    """Adds the length of a renewal to the end that the lease had."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Extend instead of setting."""
        held = list(leases)
        ends = {lease: self.jobs[lease.tracking_id].dequeue_after for lease in held if self.holds(lease)}
        lost = super().renew(held, now, lease_for)
        for lease, end in ends.items():
            self.put(evolve(self.jobs[lease.tracking_id], dequeue_after=end + lease_for))
        return lost


@on_model("R39")
class OnlyExtends(Model):
    """Leaves a lease alone whose end would come earlier."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Write GREATEST(dequeue_after, :end)."""
        held = list(leases)
        ends = {lease: self.jobs[lease.tracking_id].dequeue_after for lease in held if self.holds(lease)}
        lost = super().renew(held, now, lease_for)
        for lease, end in ends.items():
            job = self.jobs[lease.tracking_id]
            self.put(evolve(job, dequeue_after=max(end, job.dequeue_after)))
        return lost


@on_model("R39")
class CountsARenewalAsAnAttempt(Model):
    """Counts renewals as attempts."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Count."""
        held = list(leases)
        lost = super().renew(held, now, lease_for)
        for lease in {*held} - lost:
            job = self.jobs[lease.tracking_id]
            self.put(evolve(job, attempt=job.attempt + 1))
        return lost


@on_sqlite("R39")
class RenewsTheFirstTenOnly(TransactionalRelay):
    """Renews ten leases of a batch."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Cut the batch."""
        return await super().renew_leases(list(leases)[:10], now=now, lease_for=lease_for)


@on_model("R40")
class RefusesLapsedRenewals(Model):
    """Says of a lapsed lease that it is lost."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Ask for a live lease."""
        held = list(leases)
        live = [lease for lease in held if self.holds(lease) and now < self.jobs[lease.tracking_id].dequeue_after]
        return super().renew(live, now, lease_for) | ({*held} - {*live})


@on_model("R40")
class RefusesLapsedSettlements(Model):
    """Refuses a settlement whose lease has lapsed."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Ask for a live lease."""
        if self.holds(settlement.lease) and self.jobs[settlement.lease.tracking_id].dequeue_after <= now:
            return False
        return super().settle_one(settlement, now)


@on_model("R40")
class RevivesExpiredJobs(Model):
    """Settles a job whose lease has lapsed and that was marked EXPIRED."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Look at the fence only."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is not None and job.status is JobStatus.EXPIRED and job.fence == settlement.lease.fence:
            self.put(evolve(job, status=JobStatus.RUNNING, finished_at=None))
        return super().settle_one(settlement, now)


@on_model("R40")
class ExpiresRunningJobs(Model):
    """Lets a purge mark running jobs EXPIRED under a live lease."""

    def is_expirable(self, job: JobRecord, now: datetime) -> bool:
        """Forget leases."""
        return job.finished_at is None and not self.is_fresh(job, now)


@on_model("R41")
class RenewsForAnyFence(Model):
    """Renews whatever is running."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Check the status, not the fence."""
        found = {lease: self.jobs.get(lease.tracking_id) for lease in leases}
        current = {lease: job.lease for lease, job in found.items() if job is not None and job.fence}
        lost = super().renew(current.values(), now, lease_for)
        return frozenset(lease for lease in found if lease not in current or current[lease] in lost)


@on_model("R41")
class RenewsWhatItReportsLost(Model):
    """Reports a stale lease lost, and renews its job all the same."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Update by id, then compare."""
        asked = list(leases)
        found = [self.jobs[lease.tracking_id] for lease in asked if lease.tracking_id in self.jobs]
        super().renew([job.lease for job in found if job.fence], now, lease_for)
        return frozenset(lease for lease in asked if not self.holds(lease))


class SettlesUnderAnyFence(Model):
    """Applies some outcomes to whatever is running."""

    careless: ClassVar[tuple[type[Outcome], ...]]

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Check the status, not the fence."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if isinstance(settlement.outcome, self.careless) and job is not None and job.status is JobStatus.RUNNING:
            settlement = Settlement(job.lease, settlement.outcome)
        return super().settle_one(settlement, now)


@on_model("R42")
class SucceedsUnderAnyFence(SettlesUnderAnyFence):
    """Lets a stale holder succeed."""

    careless = (Succeeded,)


@on_model("R42")
class KeepsStaleResults(Model):
    """Refuses a stale success, and keeps its result."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Write the result first."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if isinstance(settlement.outcome, Succeeded) and settlement.outcome.result is not None and job is not None:
            self.put(evolve(job, result=settlement.outcome.result))
        return super().settle_one(settlement, now)


@on_model("R43")
class RetriesUnderAnyFence(SettlesUnderAnyFence):
    """Lets a stale holder queue a running job again."""

    careless = (Retry,)


@on_model("R43")
class FailsUnderAnyFence(SettlesUnderAnyFence):
    """Lets a stale holder fail a job."""

    careless = (Failed,)


@on_model("R43")
class ReleasesUnderAnyFence(SettlesUnderAnyFence):
    """Lets a stale holder release a running job."""

    careless = (Release,)


@on_model("R44")
class ReportsUnderAnyFence(Model):
    """Keeps the progress of stale holders."""

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Check the status, not the fence."""
        job = self.jobs.get(lease.tracking_id)
        if job is None or job.status is not JobStatus.RUNNING:
            return False
        return super().report(job.lease, progress)


@on_model("R44")
class ReportsOfWhatHasEnded(Model):
    """Keeps progress whatever the status, if the fence is right."""

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Check the fence, not the status."""
        job = self.jobs.get(lease.tracking_id)
        if job is None or job.fence != lease.fence:
            return False
        self.put(evolve(job, progress=progress))
        return True


@on_model("R45")
class AnswersById(Model):
    """Answers renewals and settlements by tracking id."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Collect the lost ids, and name all leases of them."""
        asked = list(leases)
        lost = {lease.tracking_id for lease in super().renew(asked, now, lease_for)}
        return frozenset(lease for lease in asked if lease.tracking_id in lost)


@on_model("R45")
class SettlesById(Model):
    """Keeps one settlement of a batch for each tracking id."""

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Lease]:
        """Let the last one stand."""
        by_id = {settlement.lease.tracking_id: settlement for settlement in settlements}
        return super().settle(by_id.values(), now)


@on_model("R45")
class AcceptsLaterFences(Model):
    """Takes a fence that is higher than the current one to be newer."""

    def holds(self, lease: Lease) -> bool:
        """Write `>=`."""
        job = self.jobs.get(lease.tracking_id)
        return job is not None and job.status is JobStatus.RUNNING and job.fence <= lease.fence


@on_model("R45")
class GivesTheBatchUp(Model):
    """Renews nothing of a batch in which a lease is lost."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Roll back."""
        asked = list(leases)
        lost = frozenset(lease for lease in asked if not self.holds(lease))
        return lost or super().renew(asked, now, lease_for)


@on_model("R45")
class SettlesFiveHundred(Model):
    """Settles the first 500 of a batch, as many as go into its statement, and answers as if that were all."""

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Lease]:
        """Forget the rest."""
        return super().settle(list(settlements)[:500], now)


@on_model("R45")
class AnswersForTheLastChunk(Model):
    """Renews by chunks of 500, and names the lost leases of the last of them."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Assign, where it should add."""
        every = list(leases)
        lost: frozenset[Lease] = frozenset()
        for begin in range(0, len(every), 500):
            lost = super().renew(every[begin : begin + 500], now, lease_for)
        return lost


@on_model("R45")
class SettlesByChunksAndAnswersForTheLast(Model):
    """Settles by chunks of 500, and names the refused leases of the last of them."""

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Lease]:
        """Assign, where it should add."""
        every = list(settlements)
        refused: frozenset[Lease] = frozenset()
        for begin in range(0, len(every), 500):
            refused = super().settle(every[begin : begin + 500], now)
        return refused


@on_model("R45")
class TakesLeasesOfOneJobForOne(Model):
    """Sends once what a batch has in common, the job too: leases of one job alone are all refused."""

    def settle(self, settlements: Iterable[Settlement], now: datetime) -> frozenset[Lease]:
        """Find no second row of that job, and no row for it."""
        every = list(settlements)
        leases = [settlement.lease for settlement in every]
        if len(leases) > 1 and len({lease.tracking_id for lease in leases}) == 1:
            return frozenset(leases)
        return super().settle(every, now)


@on_model("R45")
class RenewsNinetyNine(Model):
    """Renews the first 99 leases of a batch, and answers as if that were all."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Forget the rest."""
        return super().renew(list(leases)[:99], now, lease_for)


class NamelessModel(Model):
    """Settles by tracking id, whatever the fence and the status."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Trust the holder."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is None:
            return False
        self.put(self.settled(evolve(job, finished_at=None, status=JobStatus.RUNNING), settlement.outcome, now))
        return True


@on_ledger("R46", model=NamelessModel)
class TrustsWhoComesBack(Ledger):
    """Lets a process that was frozen settle what another one has finished."""


@on_model("R47")
class ReclaimsBySweepOnly(Model):
    """Gives lapsed leases back when a purge comes by, not before."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Look at waiting jobs only."""
        return job.status is JobStatus.PENDING and super().is_claimable(job, now)

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Name no end of a lease."""
        return None

    def purge(self, stale: StaleJobs) -> Purged:
        """Sweep."""
        for job in list(self.jobs.values()):
            if job.status is JobStatus.RUNNING and job.dequeue_after <= stale.now:
                self.put(self.waiting(job, job.dequeue_after))
        return super().purge(stale)


@on_model("R47")
class RenewsAllOfAWorker(Model):
    """Keeps all leases of a worker alive with each renewal."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Beat one heart for all."""
        asked = list(leases)
        workers = {self.jobs[lease.tracking_id].worker_id for lease in asked if self.holds(lease)}
        running = [job for job in self.jobs.values() if job.status is JobStatus.RUNNING]
        super().renew([job.lease for job in running if job.worker_id in workers], now, lease_for)
        return super().renew(asked, now, lease_for)


@on_model("R47")
class ReclaimsTwoHundredOnly(Model):
    """Gives the first 200 lapsed leases back, and takes the rest to be alive."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Count what was given back."""
        chosen: Sequence[JobRecord] = super().choose(claim)
        given = sum(job.lapses for job in self.jobs.values())
        room = max(0, 200 - given)
        lapsed = [job for job in chosen if job.status is JobStatus.RUNNING]
        return [*lapsed[:room], *(job for job in chosen if job.status is JobStatus.PENDING)]

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Name no end of a lease."""
        return None
