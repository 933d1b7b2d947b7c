"""Storages that break a rule of section A."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from attrs import evolve

from pannier.claims import Claim, Claimed
from pannier.inspection import JobFilter, Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import COMPLETE, Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement
from pannier.storage import JobStorageProvider, check_new_jobs
from pannier.urls import StorageUrl
from pannier_testing.reference.loopback import LoopbackProvider
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_loopback, on_memory, on_model, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_model("R1")
class LosesTheExpiry(Model):
    """Forgets `expire_on` where a job has metadata, too."""

    def store_one(self, job: JobRecord) -> UUID:
        """Store the job without it."""
        return super().store_one(evolve(job, expire_on=None) if job.metadata else job)


@on_memory("R1")
class ClaimsWithoutMetadata(Relay):
    """Leaves the metadata out of what a claim returns."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Read too few columns."""
        claimed = await super().claim_jobs(claim)
        return evolve(claimed, jobs=tuple(evolve(job, metadata={}) for job in claimed.jobs))


@on_sqlite("R1")
class ReadsEmptyForNone(TransactionalRelay):
    """Gives "" where the command was None."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Write `data or ""`."""
        job = await super().get_job(tracking_id)
        if job is None or job.command.data is not None:
            return job
        return evolve(job, command=Payload("", encoding=job.command.encoding))


@on_reference("R1")
class DropsEmptyMetadata(ReferenceProvider):
    """Loses metadata whose value is empty."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Write `if value`."""
        job = await super().get_job(tracking_id)
        return job and evolve(job, metadata={name: value for name, value in job.metadata.items() if value})


@on_reference("R1")
class CountsInSeconds(ReferenceProvider):
    """Keeps `created_at` in whole seconds."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Cut the rest off."""
        job = await super().get_job(tracking_id)
        return job and evolve(job, created_at=job.created_at.replace(microsecond=0))


@on_reference("R1")
class StoresWhateverComes(ReferenceProvider):
    """Stores jobs that are not new."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Leave `check_new_jobs` out."""
        return self._do(lambda model: model.store(jobs))


@on_model("R1")
class IsMadeBeforeItStarts(Model):
    """Takes a job to be made when it starts, at the latest."""

    def store_one(self, job: JobRecord) -> UUID:
        """Move `created_at`."""
        return super().store_one(evolve(job, created_at=min(job.created_at, job.execute_after)))


@on_model("R1")
class KeepsFewMetadata(Model):
    """Keeps the first eight entries of metadata."""

    def store_one(self, job: JobRecord) -> UUID:
        """Fill the columns that there are."""
        return super().store_one(evolve(job, metadata=dict([*job.metadata.items()][:8])))


@on_model("R2")
class StartsWhenItWasMade(Model):
    """Takes the instant at which a job was made for its `dequeue_after` where that is later."""

    def store_one(self, job: JobRecord) -> UUID:
        """Store the job with a default of its own."""
        standing = super().store_one(job)
        if standing == job.tracking_id and self.jobs[standing].fence == 0:
            self.put(evolve(self.jobs[standing], dequeue_after=max(job.created_at, job.execute_after)))
        return standing


@on_reference("R2")
class CountsAttemptsFromOne(ReferenceProvider):
    """Gives a job that was made after its time, and never ran, one attempt."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Count the first attempt early."""
        job = await super().get_job(tracking_id)
        return evolve(job, attempt=max(job.attempt, 1)) if job and job.created_at > job.execute_after else job


@on_reference("R3")
class KeepsWhatItIsGiven(ReferenceProvider):
    """Stores the caller's own objects."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Copy nothing."""
        await super().store_jobs([])
        return self._do(lambda model: model.store(jobs))


@on_reference("R3")
class GivesWhatItKeeps(ReferenceProvider):
    """Returns its own objects."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Copy nothing."""
        return self._do(lambda model: model.get(tracking_id))


@on_reference("R3")
class ClaimsWhatItKeeps(ReferenceProvider):
    """Returns its own objects from a claim."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Copy nothing."""
        return self._do(lambda model: model.claim(claim))


@on_reference("R3")
class KeepsTheCallersResult(ReferenceProvider):
    """Stores the caller's own result."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Copy nothing."""
        return self._do(lambda model: model.settle(settlements, now))


@on_memory("R4")
class RemembersWhatItRead(Relay):
    """Reads each job once, and answers from a cache of its own until it writes."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._read: dict[UUID, JobRecord | None] = {}

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look into the cache first."""
        if tracking_id not in self._read:
            self._read[tracking_id] = await super().get_job(tracking_id)
        return self._read[tracking_id]

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Forget what was read."""
        self._read.clear()
        return await super().claim_jobs(claim)


@on_reference("R4")
class RemembersThatNothingIsDue(ReferenceProvider):
    """Looks no more before the next due instant that it found, unless it changes something itself."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._empty: dict[object, Claimed] = {}

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Ask its own memory first."""
        self._check_open()
        empty = self._empty.get(claim.demands)
        if empty is not None and empty.next_due is not None and claim.now < empty.next_due:
            return empty
        claimed = await super().claim_jobs(claim)
        is_over = claimed.next_due is not None and claimed.next_due > claim.now
        self._empty = {claim.demands: claimed} if is_over and not claimed.jobs else {}
        return claimed

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Forget."""
        self._empty.clear()
        return await super().store_jobs(jobs)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Forget."""
        self._empty.clear()
        return await super().settle_jobs(settlements, now=now)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Forget."""
        self._empty.clear()
        return await super().renew_leases(leases, now=now, lease_for=lease_for)


@on_sqlite("R4")
class WritesLater(TransactionalRelay):
    """Keeps new jobs to itself until it is asked for the next thing."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._waiting: list[JobRecord] = []

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Answer at once, and store at the next call."""
        await self._write()
        self._waiting = list(jobs)
        return [job.tracking_id for job in jobs]

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Store first what was promised."""
        await self._write()
        return await super().get_job(tracking_id)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Store first what was promised."""
        await self._write()
        return await super().claim_jobs(claim)

    async def close(self) -> None:
        """Store first what was promised."""
        await self._write()
        await super().close()

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            await super().store_jobs(waiting)


@on_reference("R4")
class TrustsWhatHasEnded(ReferenceProvider):
    """Remembers the result of a job that has ended, though another instance may requeue it."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._ended: dict[UUID, StoredResult] = {}

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Look into the cache first."""
        found = self._ended.get(tracking_id) or await super().get_job_result(tracking_id)
        if found is not None and found.status in COMPLETE:
            self._ended[tracking_id] = found
        return found

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Forget what was remembered, here."""
        self._ended.pop(tracking_id, None)
        return await super().requeue_job(tracking_id, now=now, expire_on=expire_on)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Forget what was remembered, here."""
        self._ended.clear()
        return await super().purge_stale_jobs(stale)


@on_reference("R4")
class RemembersKeys(ReferenceProvider):
    """Remembers which job stands for a key that it has met, though another instance may purge that job."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._keys: dict[tuple[str, str], UUID] = {}

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Look into the cache first."""
        if len(jobs) == 1 and (jobs[0].queue_id, jobs[0].idempotency_key) in self._keys:
            return [self._keys[jobs[0].queue_id, str(jobs[0].idempotency_key)]]
        standing = await super().store_jobs(jobs)
        for job, tracking_id in zip(jobs, standing, strict=True):
            if job.idempotency_key is not None:
                self._keys[job.queue_id, job.idempotency_key] = tracking_id
        return standing

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Forget what was remembered, here."""
        self._keys.clear()
        return await super().purge_stale_jobs(stale)


@on_reference("R4")
class RemembersItsCounts(ReferenceProvider):
    """Counts anew only where the instance has settled or claimed something itself."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._counts: dict[str, Mapping[tuple[str, JobStatus], int]] = {}

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Look into the cache first."""
        if repr(wanted) not in self._counts:
            self._counts[repr(wanted)] = await super().count_jobs(wanted)
        return self._counts[repr(wanted)]

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Forget what was counted, here."""
        self._counts.clear()
        return await super().claim_jobs(claim)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Forget what was counted, here."""
        self._counts.clear()
        return await super().settle_jobs(settlements, now=now)


@on_reference("R5")
class StoresOneAfterTheOther(ReferenceProvider):
    """Keeps the jobs before the bad one of a batch."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store each job for itself."""
        standing: list[UUID] = []
        for job in jobs:
            standing += await super().store_jobs([job])
        return standing


@on_reference("R5")
class StoresFiveHundredAtATime(ReferenceProvider):
    """Cuts a batch into pieces, and keeps those before the one that fails."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store each piece for itself."""
        standing: list[UUID] = []
        for start in range(0, len(jobs), 500):
            standing += await super().store_jobs(jobs[start : start + 500])
        return standing


@on_reference("R5")
class ChecksFirstAndStoresInPieces(ReferenceProvider):
    """Checks a whole batch, cuts it into pieces, and keeps those before the one that holds what can't be held."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Encode, and store, each piece for itself."""
        check_new_jobs(jobs)
        standing: list[UUID] = []
        for start in range(0, len(jobs), 500):
            standing += await super().store_jobs(jobs[start : start + 500])
        return standing


@on_model("R5")
class FailsForDuplicates(Model):
    """Raises for a batch that holds one job twice, as a unique index does."""

    def store(self, jobs: Iterable[JobRecord]) -> list[UUID]:
        """Insert without ON CONFLICT."""
        batch = list(jobs)
        if len({job.tracking_id for job in batch}) < len(batch):
            raise LookupError("UNIQUE constraint failed: jobs.tracking_id")
        return super().store(batch)


@on_model("R5")
class AsksForTheKeyFirst(Model):
    """Lets a key stand before a tracking id."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look in the wrong order."""
        by_key = None if job.idempotency_key is None else self.keys.get((job.queue_id, job.idempotency_key))
        return by_key or super().standing(job)


@on_model("R5")
class AnswersItsOwnIds(Model):
    """Answers each job's own id, also where another one stands."""

    def store(self, jobs: Iterable[JobRecord]) -> list[UUID]:
        """Forget what stood."""
        batch = list(jobs)
        super().store(batch)
        return [job.tracking_id for job in batch]


@on_model("R5")
class StoresTheLastOfARepeatedId(Model):
    """Stores the last of the jobs that have one tracking id in a batch, as a dict of them does."""

    def store(self, jobs: Iterable[JobRecord]) -> list[UUID]:
        """Key the batch by its ids."""
        batch = list(jobs)
        standing = {job.tracking_id: self.store_one(job) for job in {job.tracking_id: job for job in batch}.values()}
        return [standing[job.tracking_id] for job in batch]


@on_sqlite("R6")
class StoresAtMost999(TransactionalRelay):
    """Stores no more jobs than an old limit on a statement's values."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Cut the batch off."""
        await super().store_jobs(jobs[:999])
        return [job.tracking_id for job in jobs]


@on_memory("R6")
class AnswersInAnyOrder(Relay):
    """Gives the ids of a batch in the order of a set."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Sort the answer."""
        return sorted(await super().store_jobs(jobs))


@on_model("R7")
class OverwritesWhatIsThere(Model):
    """Replaces a job that is stored again, as an upsert does."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look only for another one with the key."""
        standing = super().standing(job)
        return None if standing == job.tracking_id else standing


@on_model("R7")
class InsertsASecondTime(Model):
    """Gives a job that is stored again an id of its own."""

    def store_one(self, job: JobRecord) -> UUID:
        """Insert with a new id."""
        if job.tracking_id in self.jobs:
            super().store_one(evolve(job, tracking_id=uuid4(), idempotency_key=None))
            return job.tracking_id
        return super().store_one(job)


@on_model("R7")
class TakesTheKeyOfARepeat(Model):
    """Lets the key of a job that is stored again stand for the job that is there."""

    def store_one(self, job: JobRecord) -> UUID:
        """Write the key before the job."""
        standing = super().store_one(job)
        if job.idempotency_key is not None:
            self.keys.setdefault((job.queue_id, job.idempotency_key), standing)
        return standing

    def delete(self, job: JobRecord) -> None:
        """Delete all keys of the job."""
        super().delete(job)
        self.keys = {key: standing for key, standing in self.keys.items() if standing != job.tracking_id}


@on_memory("R8")
class CancelsAsIfEveryJobWereThere(Relay):
    """Says CANCELLED of a job that was never stored."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Answer without a look at what was found."""
        await super().cancel_job(tracking_id, now=now)
        return Cancellation.CANCELLED


@on_loopback("R8")
class RaisesForUnknownJobs(LoopbackProvider):
    """Raises KeyError where get_job should answer None."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up as one looks into a dict."""
        job = await super().get_job(tracking_id)
        if job is None:
            raise KeyError(tracking_id)
        return job


@on_sqlite("R8")
class FindsEveryLease(TransactionalRelay):
    """Says of no lease that it is lost."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Renew, and forget the answer."""
        await super().renew_leases(leases, now=now, lease_for=lease_for)
        return frozenset()
