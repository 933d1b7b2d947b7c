"""Storages that break R121: what a claim says of the next due instant."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim, Claimed
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference


@on_reference("R121")
class NamesNoNextDue(ReferenceProvider):
    """Never says when something falls due."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Leave the answer out."""
        return evolve(await super().claim_jobs(claim), next_due=None)


@on_model("R121")
class NamesWaitingJobsOnly(Model):
    """Does not count the ends of leases."""

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Leave running jobs out."""
        running = {job.tracking_id for job in self.jobs.values() if job.status is JobStatus.RUNNING}
        return super().next_due(claim, taken | running)


@on_model("R121")
class NamesExpiredJobs(Model):
    """Names jobs that have expired, so that a worker asks again and again."""

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Forget the expiry."""
        asked = self.unfinished([queue_id for demand in claim.demands for queue_id in demand.queue_ids])
        dues = [job.dequeue_after for job in asked if job.tracking_id not in taken]
        first = min(dues, default=None)
        return first if first is not None and first - claim.now <= claim.look_ahead else None


@on_model("R121")
class NamesAnInstantTooLate(Model):
    """Names the whole second after the next due instant."""

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Round up."""
        due = super().next_due(claim, taken)
        return due and due.replace(microsecond=0) + timedelta(seconds=1)


@on_model("R121")
class ForgetsWhatTheLimitLeft(Model):
    """Names only jobs that are still to fall due, not those that the limit has left."""

    def grant(self, chosen: Sequence[JobRecord], claim: Claim) -> Claimed:
        """Look behind now."""
        claimed = super().grant(chosen, claim)
        is_left = claimed.next_due is not None and claimed.next_due <= claim.now
        return evolve(claimed, next_due=None) if is_left else claimed


@on_model("R121")
class ForgetsDemandsOfNothing(Model):
    """Leaves demands with the limit 0 out of the next due instant."""

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Ask only for what is wanted."""
        wanted = tuple(demand for demand in claim.demands if demand.limit)
        return super().next_due(evolve(claim, demands=wanted), taken) if wanted else None


@on_reference("R121")
class ForgetsWhatItPassedOver(ReferenceProvider):
    """Passes over jobs that another claim is taking, and does not count them."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Skip what is locked, and what is locked does not fall due."""
        held: set[UUID] = self.shelf.__dict__.setdefault("held", set())
        passed = frozenset(held)
        chosen = [job for job in self._do(lambda model: model.choose(claim)) if job.tracking_id not in passed]
        mine = {job.tracking_id for job in chosen}
        held |= mine
        await asyncio.sleep(0)
        held -= mine
        claimed = self._do(lambda model: model.grant(chosen, claim))
        return evolve(claimed, next_due=None) if passed else claimed


@on_model("R121")
class NamesTheLastDemands(Model):
    """Forgets what one demand is waiting for when the next one is waiting, too."""

    def next_due(self, claim: Claim, taken: set[UUID]) -> datetime | None:
        """Overwrite."""
        dues = [super(NamesTheLastDemands, self).next_due(evolve(claim, demands=(d,)), taken) for d in claim.demands]
        return next((due for due in reversed(dues) if due is not None), None)
