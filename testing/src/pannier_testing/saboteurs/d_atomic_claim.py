"""Storages that break a rule of section D."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from attrs import evolve

from pannier.claims import Claim, Claimed, Demand
from pannier.errors import StorageBusyError
from pannier.records import JobRecord, JobStatus
from pannier.settlements import Outcome, Release
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_ledger, on_memory, on_model, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_model("R29")
class LooksAtJobsWithoutLeasingThem(Model):
    """Gives jobs away that stay due."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Let the lease begin in the past."""
        return evolve(super().leased(job, claim), dequeue_after=claim.now)


@on_model("R29")
class ReturnsTheLeasesOfItsWorker(Model):
    """Returns the live leases of the asking worker again."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Begin with what the worker has."""
        own = [job for job in self.jobs.values() if job.worker_id == claim.worker_id and job.finished_at is None]
        asked = {queue_id for demand in claim.demands for queue_id in demand.queue_ids}
        return [*(job for job in own if job.queue_id in asked), *super().choose(claim)][: claim.demands[0].limit]


@on_reference("R30")
class LeasesWithoutASecondLook(ReferenceProvider):
    """Chooses jobs, awaits, and then leases what it chose, whoever has it by now."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Select, await, update without a guard."""
        chosen = self._do(lambda model: model.choose(claim))
        await asyncio.sleep(0)
        return self._do(lambda model: model.grant(chosen, claim))


@on_sqlite("R30")
class SharesItsAnswers(TransactionalRelay):
    """Gives a claim that comes while another is under way that one's answer."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._running: asyncio.Task[Claimed] | None = None

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Coalesce claims as one coalesces reads."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self.inner.claim_jobs(claim))
        return await asyncio.shield(self._running)


@on_reference("R30")
class TakesOverWithoutASecondLook(ReferenceProvider):
    """Guards the claim of waiting jobs, but not the taking over of lapsed leases."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Check the status only, which is RUNNING before and after."""
        chosen = self._do(lambda model: model.choose(claim))
        await asyncio.sleep(0)

        def grant(model: Model) -> Claimed:
            return model.grant([job for job in chosen if model.jobs[job.tracking_id].status is job.status], claim)

        return self._do(grant)


@on_reference("R31")
class LocksEachInstance(ReferenceProvider):
    """Guards a claim by a lock of its own instance."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._claiming = asyncio.Lock()

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Select, await, update, under the lock."""
        async with self._claiming:
            chosen = self._do(lambda model: model.choose(claim))
            await asyncio.sleep(0)
            return self._do(lambda model: model.grant(chosen, claim))


@on_ledger("R32")
class LocksThreadsOnly(Ledger):
    """Guards the file by a lock of this process."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Trust that there is one process."""
        with self.lock:
            yield

    def write(self, text: bytes) -> None:
        """Replace the file."""
        new = self.path.with_suffix(f".{os.getpid()}")
        new.write_bytes(text)
        new.replace(self.path)


@on_model("R33")
class ForgetsTheWorker(Model):
    """Does not store who claimed a job."""

    def grant(self, chosen: Sequence[JobRecord], claim: Claim) -> Claimed:
        """Return the worker, and store none."""
        claimed = super().grant(chosen, claim)
        for job in claimed.jobs:
            self.put(evolve(job, worker_id=None))
        return claimed


@on_memory("R33")
class ReturnsTheJobAsItWas(Relay):
    """Returns jobs as they were before the claim."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Select first."""
        claimed = await super().claim_jobs(claim)
        jobs = tuple(evolve(job, attempt=job.attempt - 1, status=JobStatus.PENDING) for job in claimed.jobs)
        return evolve(claimed, jobs=jobs)


@on_model("R33")
class TouchesTheRestOfTheLine(Model):
    """Puts back the jobs that it looked at and did not take, a little later."""

    def grant(self, chosen: Sequence[JobRecord], claim: Claim) -> Claimed:
        """Push the others back."""
        claimed = super().grant(chosen, claim)
        for job in self.unfinished({job.queue_id for job in chosen}):
            if job.status is JobStatus.PENDING:
                self.put(evolve(job, dequeue_after=job.dequeue_after + timedelta(microseconds=1)))
        return claimed


@on_model("R33")
class EndsLiveLeasesAtTheirExpiry(Model):
    """Marks a running job EXPIRED when its expiry comes, by a claim."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Mark whatever is past its expiry."""
        for job in list(self.jobs.values()):
            if job.finished_at is None and not self.is_fresh(job, claim.now):
                self.put(evolve(job, status=JobStatus.EXPIRED, finished_at=claim.now))
        return super().choose(claim)


@on_model("R34")
class KeepsTheFence(Model):
    """Gives a job that is claimed again the fence that it had."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Fence the first claim only."""
        return evolve(super().leased(job, claim), fence=max(job.fence, 1))


@on_model("R34")
class GivesTheFenceBack(Model):
    """Gives the fence back with the attempt when a job is released."""

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """Undo the claim whole."""
        settled = super().settled(job, outcome, now)
        return evolve(settled, fence=job.fence - 1) if isinstance(outcome, Release) else settled


@on_model("R34")
class FencesByAttempt(Model):
    """Uses the attempt as the fence, which release and retry lower."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Count one thing for two."""
        leased = super().leased(job, claim)
        return evolve(leased, fence=leased.attempt)


@on_reference("R35")
class SaysThatItIsLocked(ReferenceProvider):
    """Lets "database is locked" surface when two calls meet."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Try once."""
        if getattr(self.shelf, "is_locked", False):
            raise StorageBusyError("database is locked")
        self.shelf.is_locked = True  # type: ignore[attr-defined]  # what a lock in the store would be
        try:
            await asyncio.sleep(0)
            return await super().claim_jobs(claim)
        finally:
            self.shelf.is_locked = False  # type: ignore[attr-defined]


@on_reference("R35")
class PassesOverForGood(ReferenceProvider):
    """Leaves out jobs that another claim is looking at, and forgets to put them back."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Skip what is locked, and lock a job too many."""
        more = tuple(Demand(demand.queue_ids, demand.limit + 1) for demand in claim.demands)
        held = self.shelf.__dict__.setdefault("held", set())
        found = self._do(lambda model: model.choose(evolve(claim, demands=more)))
        locked = [job for job in found if job.tracking_id not in held]
        held.update(job.tracking_id for job in locked)
        await asyncio.sleep(0)
        claimed = self._do(lambda model: model.grant(locked[: claim.demands[0].limit], claim))
        return evolve(claimed, next_due=None)


@on_reference("R36")
class KeepsTheLockWhenCancelled(ReferenceProvider):
    """Does not give its lock back where a claim is cancelled."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._turn = asyncio.Lock()

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Acquire and release without `finally`."""
        await self._turn.acquire()
        await asyncio.sleep(0)
        claimed = await super().claim_jobs(claim)
        self._turn.release()
        return claimed


@on_reference("R36")
class TakesJobsOutBeforeItLeases(ReferenceProvider):
    """Takes jobs out of the line, awaits, and then leases them: a cancelled claim loses them."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Pop, await, insert."""
        chosen = self._do(lambda model: [model.jobs.pop(job.tracking_id) for job in model.choose(claim)])
        await asyncio.sleep(0)
        return self._do(lambda model: model.grant(chosen, claim))


@on_memory("R36")
class ClosesWhenCancelled(Relay):
    """Gives up its connection for good where a claim is cancelled."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Clean up too much."""
        try:
            await asyncio.sleep(0)
            return await super().claim_jobs(claim)
        except asyncio.CancelledError:
            await self.close()
            raise
