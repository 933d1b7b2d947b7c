"""Storages that break a rule of section H."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import evolve

from pannier import storage as r
from pannier.claims import Claim, Claimed
from pannier.errors import StorageConflictError
from pannier.records import Cancellation, JobRecord, JobStatus, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_memory, on_model, on_reference
from pannier_testing.saboteurs.relay import Relay

WORK: Final = (r.Succeeded, r.Failed)
DAY: Final = timedelta(days=1)


@on_model("R60")
class DelaysWhatIsCancelled(Model):
    """Moves a scheduled job a day on instead of ending it."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Say CANCELLED, and wait."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.PENDING and job.dequeue_after > now:
            self.put(evolve(job, dequeue_after=job.dequeue_after + DAY))
            return Cancellation.CANCELLED
        return super().cancel(tracking_id, now)


@on_model("R60")
class DeletesWhatIsCancelled(Model):
    """Deletes a pending job that is cancelled, so that nobody can see what became of it."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Delete it."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.PENDING:
            self.delete(job)
            return Cancellation.CANCELLED
        return super().cancel(tracking_id, now)


@on_model("R60")
class CancelsTheWholeQueue(Model):
    """Cancels every pending job of the queue."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Forget the id in the condition."""
        job = self.jobs.get(tracking_id)
        alike = [] if job is None else self.unfinished([job.queue_id])
        answer = super().cancel(tracking_id, now)
        for other in alike:
            if other.status is JobStatus.PENDING:
                super().cancel(other.tracking_id, now)
        return answer


@on_model("R61")
class SettlesWhatWasCancelled(Model):
    """Lets the holder of a cancelled job settle it."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Look at the fence alone."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is not None and job.status is JobStatus.CANCELLED and job.fence == settlement.lease.fence:
            running = self.put(evolve(job, status=JobStatus.RUNNING, finished_at=None))
            self.put(self.settled(running, settlement.outcome, self.down(now)))
            return True
        return super().settle_one(settlement, now)


@on_model("R61")
class RenewsWhatWasCancelled(Model):
    """Tells the holder of a cancelled job that its lease stands."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Report lost only what somebody else has."""
        lost = super().renew(leases, now, lease_for)
        return frozenset(lease for lease in lost if not self._is_cancelled(lease))

    def _is_cancelled(self, lease: Lease) -> bool:
        job = self.jobs.get(lease.tracking_id)
        return job is not None and job.status is JobStatus.CANCELLED and job.fence == lease.fence


@on_reference("R61")
class CancelsItsOwnJobsOnly(ReferenceProvider):
    """Ends a running job only where the instance that claimed it is asked; says CANCELLED anyway."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._mine: set[UUID] = set()

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Note who is mine."""
        claimed = await super().claim_jobs(claim)
        self._mine |= {job.tracking_id for job in claimed.jobs}
        return claimed

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Leave the jobs of others."""
        job = await self.get_job(tracking_id)
        if job is not None and job.status is JobStatus.RUNNING and tracking_id not in self._mine:
            return Cancellation.CANCELLED
        return await super().cancel_job(tracking_id, now=now)


@on_model("R62")
class CancelsFinishedJobs(Model):
    """Turns a SUCCEEDED job into a CANCELLED one."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Write without a look at the status."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.SUCCEEDED:
            self.put(evolve(job, status=JobStatus.CANCELLED))
            return Cancellation.CANCELLED
        return super().cancel(tracking_id, now)


@on_model("R62")
class SaysCancelledOfFinishedJobs(Model):
    """Answers CANCELLED for a job that has ended otherwise, though it leaves it alone."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Promise what was not done."""
        answer = super().cancel(tracking_id, now)
        return Cancellation.CANCELLED if answer is Cancellation.ALREADY_COMPLETE else answer


@on_model("R62")
class DropsTheResultOnCancel(Model):
    """Answers well, but drops the result of a job that somebody tries to cancel too late."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Clear it in any case."""
        answer = super().cancel(tracking_id, now)
        if answer is Cancellation.ALREADY_COMPLETE:
            self.put(evolve(self.jobs[tracking_id], result=None))
        return answer


@on_memory("R63")
class RaisesOnASecondCancel(Relay):
    """Raises when a cancelled job is cancelled again."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Insist on a change."""
        job = await self.inner.get_job(tracking_id)
        if job is not None and job.status is JobStatus.CANCELLED:
            raise StorageConflictError(f"job {tracking_id} is cancelled already")
        return await self.inner.cancel_job(tracking_id, now=now)


@on_model("R63")
class CancelsAnew(Model):
    """Moves the end of a cancelled job when it is cancelled again."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Write again."""
        answer = super().cancel(tracking_id, now)
        if answer is Cancellation.CANCELLED:
            self.put(evolve(self.jobs[tracking_id], finished_at=self.down(now)))
        return answer


@on_model("R63")
class SaysCompleteOfCancelledJobs(Model):
    """Answers ALREADY_COMPLETE for a job that was cancelled before."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Tell no statuses apart."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.finished_at is not None:
            return Cancellation.ALREADY_COMPLETE
        return super().cancel(tracking_id, now)


@on_reference("R64")
class ClaimsOverACancel(ReferenceProvider):
    """Leases what it chose before an await, unless another claim has it: a cancel in between is overwritten."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Guard the write by the fence alone."""
        chosen = self._do(lambda model: model.choose(claim))
        await asyncio.sleep(0)

        def grant(model: Model) -> Claimed:
            return model.grant([job for job in chosen if model.jobs[job.tracking_id].fence == job.fence], claim)

        return self._do(grant)


class WritesStaleRows(ReferenceProvider):
    """Settles by writing the whole row as it was read before an await."""

    kinds: tuple[type, ...] = ()

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Read, decide, await, write."""
        mine = [settlement for settlement in settlements if isinstance(settlement.outcome, self.kinds)]
        rows = self._do(lambda model: [model.jobs.get(settlement.lease.tracking_id) for settlement in mine])
        held = self._do(lambda model: [model.holds(settlement.lease) for settlement in mine])
        await asyncio.sleep(0)
        written = {s.lease for s, row, is_held in zip(mine, rows, held, strict=True) if row is not None and is_held}

        def write(model: Model) -> None:
            for settlement, row in zip(mine, rows, strict=True):
                if row is not None and settlement.lease in written:
                    model.put(model.settled(row, settlement.outcome, model.down(now)))

        self._do(write)
        return await super().settle_jobs([s for s in settlements if s.lease not in written], now=now)


@on_reference("R65")
class LosesACancelToAnEnd(WritesStaleRows):
    """Overwrites a cancel that came while it settled a job for good."""

    kinds = WORK


@on_reference("R65")
class LosesAnEndToACancel(ReferenceProvider):
    """Overwrites a settlement that came while it cancelled a job."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Read, await, write."""
        job = await self.get_job(tracking_id)
        await asyncio.sleep(0)
        if job is None or job.finished_at is not None:
            return await super().cancel_job(tracking_id, now=now)
        ended = evolve(job, status=JobStatus.CANCELLED, finished_at=now)
        self._do(lambda model: model.put(ended))
        return Cancellation.CANCELLED


@on_reference("R66")
class LosesACancelToARetry(WritesStaleRows):
    """Overwrites a cancel that came while it put a job back for a retry."""

    kinds = (r.Retry,)


@on_model("R67")
class RunsAgainWhatWasCancelled(Model):
    """Takes a cancelled job whose lease has lapsed for one whose worker has died."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Count what somebody has held."""
        asked = set(queue_ids)
        dead = [
            evolve(job, status=JobStatus.RUNNING, finished_at=None)
            for job in self.jobs.values()
            if job.queue_id in asked and job.status is JobStatus.CANCELLED and job.worker_id is not None
        ]
        return super().unfinished(asked) + dead


@on_model("R67")
class EndsACancelledJobWithItsLease(Model):
    """Makes a job that was cancelled while it ran EXPIRED at the next purge after its lease."""

    def purge(self, stale: r.StaleJobs) -> r.Purged:
        """Sweep what nobody holds."""
        for job in list(self.jobs.values()):
            if job.status is JobStatus.CANCELLED and job.worker_id is not None and job.dequeue_after <= stale.now:
                self.put(evolve(job, status=JobStatus.EXPIRED))
        return super().purge(stale)


@on_model("R60")
class SparesWhatHasExpired(Model):
    """Takes a pending job past its expiry to be over, and does not cancel it."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Leave it to the purge."""
        job = self.jobs.get(tracking_id)
        if job is not None and self.is_expirable(job, now):
            return Cancellation.ALREADY_COMPLETE
        return super().cancel(tracking_id, now)


@on_model("R61")
class CancelsNoLapsedLease(Model):
    """Says CANCELLED of a job whose lease has lapsed, and leaves it to whoever takes it over."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Look for pending jobs and live leases."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.RUNNING and job.dequeue_after <= now:
            return Cancellation.CANCELLED
        return super().cancel(tracking_id, now)
