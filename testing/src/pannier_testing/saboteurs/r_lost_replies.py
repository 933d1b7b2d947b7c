"""Storages that break a rule of section R: what becomes of a call whose reply is lost."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from attrs import evolve

from pannier.claims import Claim, Claimed
from pannier.errors import StorageUnavailableError
from pannier.records import Cancellation, JobRecord, Lease
from pannier.settlements import Retry, Settlement
from pannier.urls import StorageUrl
from pannier_testing.reference.loopback import LoopbackProvider
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import in_model, on_loopback

T = TypeVar("T")


# R111: a reply is lost.


@on_loopback("R111")
class RefusesARepeat(LoopbackProvider):
    """Takes a settlement whose reply was lost for done, and refuses the repeat."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._tried: set[Lease] = set()

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Remember what was tried."""
        again = {each.lease for each in settlements} & self._tried
        try:
            return await super().settle_jobs(settlements, now=now) | again
        except StorageUnavailableError:
            self._tried |= {each.lease for each in settlements}
            raise


@on_loopback("R111")
class CancelsNothingTwice(LoopbackProvider):
    """Says of a job whose cancellation it has tried that it is over already."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._tried: set[UUID] = set()

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Remember what was tried."""
        try:
            answer = await super().cancel_job(tracking_id, now=now)
        except StorageUnavailableError:
            self._tried.add(tracking_id)
            raise
        return Cancellation.ALREADY_COMPLETE if tracking_id in self._tried else answer


@on_loopback("R111")
class StoresARepeatAnew(LoopbackProvider):
    """Gives jobs whose storing failed an id and a key of their own when they are stored again."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._tried: set[UUID] = set()

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Rename what was tried."""
        fresh = [
            evolve(job, tracking_id=uuid4(), idempotency_key=None) if job.tracking_id in self._tried else job
            for job in jobs
        ]
        try:
            return await super().store_jobs(fresh)
        except StorageUnavailableError:
            self._tried |= {job.tracking_id for job in jobs}
            raise


class NotesErrorsAgain(Model):
    """Notes the error of a repeated retry a second time."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Append whether it is a repeat or not."""
        before = self.jobs.get(settlement.lease.tracking_id)
        is_accepted = super().settle_one(settlement, now)
        after = self.jobs.get(settlement.lease.tracking_id)
        if is_accepted and after is not None and after is before and isinstance(settlement.outcome, Retry):
            self.put(evolve(after, errors=self.noted(after, settlement.outcome.error)))
        return is_accepted


@on_loopback("R111", make_storage=in_model(NotesErrorsAgain))
class RetriesTwice(LoopbackProvider):
    """Notes the error of a retry again when the retry is repeated."""


# R112: the reply of a claim is lost.


class HandsJobsOut(Model):
    """Forgets jobs as it hands them out, until the client confirms that it has them."""

    def __init__(self, grid: timedelta = timedelta(microseconds=1)) -> None:
        super().__init__(grid)
        self._handed_out: dict[UUID, JobRecord] = {}

    def claim(self, claim: Claim) -> Claimed:
        """Take jobs out of the store."""
        claimed = super().claim(claim)
        for job in claimed.jobs:
            self._handed_out[job.tracking_id] = self.jobs.pop(job.tracking_id)
        return claimed

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Without leases it is a confirmation."""
        leases = list(leases)
        if not leases:
            self.jobs |= self._handed_out
            self._handed_out = {}
        return super().renew(leases, now, lease_for)


@on_loopback("R112", make_storage=in_model(HandsJobsOut))
class DeletesWhatItReads(LoopbackProvider):
    """Pops jobs off a list, and puts them back once it has them."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Pop, then confirm."""
        claimed = await super().claim_jobs(claim)
        if claimed.jobs:
            await self.renew_leases([], now=claim.now, lease_for=claim.lease_for)
        return claimed


@on_loopback("R112")
class LeasesForADayFirst(LoopbackProvider):
    """Leases jobs for a day, and sets the end that was asked for once it has them."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim, then renew."""
        claimed = await super().claim_jobs(evolve(claim, lease_for=claim.lease_for + timedelta(days=1)))
        if not claimed.jobs:
            return claimed
        await self.renew_leases([job.lease for job in claimed.jobs], now=claim.now, lease_for=claim.lease_for)
        ends = claim.now + claim.lease_for
        return evolve(claimed, jobs=tuple(evolve(job, dequeue_after=ends) for job in claimed.jobs))
