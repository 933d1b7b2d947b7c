"""Storages and values that break a rule of section B."""

import asyncio
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from attrs import evolve, frozen

from pannier.inspection import Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import COMPLETE, JobRecord, JobStatus, Lease
from pannier.settlements import Release, Settlement
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_ledger, on_memory, on_model, on_reference, on_sqlite, on_values
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_model("R10")
class IgnoresKeys(Model):
    """Deduplicates by tracking id only."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look for the id."""
        return job.tracking_id if job.tracking_id in self.jobs else None


@on_sqlite("R10")
class AnswersTheDuplicatesId(TransactionalRelay):
    """Answers the id of the job that it did not store."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Forget what stands."""
        await super().store_jobs(jobs)
        return [job.tracking_id for job in jobs]


@on_model("R11")
class OverwritesThePayload(Model):
    """Puts the payload of a duplicate into the job that stands."""

    def store_one(self, job: JobRecord) -> UUID:
        """Write ON CONFLICT DO UPDATE."""
        standing = super().store_one(job)
        if standing != job.tracking_id:
            self.put(evolve(self.jobs[standing], command=job.command))
        return standing


@on_model("R11")
class TakesTheHigherPriority(Model):
    """Raises the priority of the job that stands to that of a duplicate."""

    def store_one(self, job: JobRecord) -> UUID:
        """Mean well."""
        standing = super().store_one(job)
        if standing != job.tracking_id:
            kept = self.jobs[standing]
            self.put(evolve(kept, priority=max(kept.priority, job.priority)))
        return standing


@on_model("R11")
class ExtendsTheExpiry(Model):
    """Lets a job that stands live as long as a duplicate asks for."""

    def store_one(self, job: JobRecord) -> UUID:
        """Take the later expiry."""
        standing = self.jobs[super().store_one(job)]
        if standing.expire_on is not None and job.expire_on is not None and standing.expire_on < job.expire_on:
            self.put(evolve(standing, expire_on=job.expire_on))
        return standing.tracking_id


@on_model("R11")
class WakesWhatWaitsForARetry(Model):
    """Makes a job that waits for its retry due when somebody stores its key."""

    def store_one(self, job: JobRecord) -> UUID:
        """Take a duplicate for a wish to try again."""
        standing = self.jobs[super().store_one(job)]
        if standing.tracking_id != job.tracking_id and standing.errors and standing.status is JobStatus.PENDING:
            self.put(evolve(standing, dequeue_after=standing.execute_after))
        return standing.tracking_id


@on_model("R12")
class JoinsQueueAndKey(Model):
    """Keeps a queue and a key as one text, with a colon between."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Compare the texts."""
        if job.tracking_id in self.jobs or job.idempotency_key is None:
            return super().standing(job)
        wanted = f"{job.queue_id}:{job.idempotency_key}"
        return next((standing for pair, standing in self.keys.items() if ":".join(pair) == wanted), None)


@on_model("R12")
class SharesKeysBetweenQueues(Model):
    """Takes a key to be unique across queues."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look in every queue."""
        found = [standing for (_, key), standing in self.keys.items() if key == job.idempotency_key]
        return super().standing(job) or (found[0] if found else None)


@on_model("R13")
class KeepsOneJobWithoutAKey(Model):
    """Deduplicates jobs that have no key, as a unique index over a column without NULLs does."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look for the key that is not there."""
        alike = [kept for kept in self.jobs.values() if kept.queue_id == job.queue_id]
        without_key = [kept.tracking_id for kept in alike if kept.idempotency_key is None]
        if job.idempotency_key is None and without_key:
            return without_key[0]
        return super().standing(job)


@on_values("R13", "job_record")
@frozen(kw_only=True, slots=False)
class RecordsABlankKey(JobRecord):
    """Keeps a blank key as it is."""

    def __attrs_post_init__(self) -> None:
        key = self.idempotency_key
        super().__attrs_post_init__()
        object.__setattr__(self, "idempotency_key", key)


@on_reference("R14")
class LooksBeforeItStores(ReferenceProvider):
    """Looks for the key, awaits, and then inserts without a unique index."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Check, then insert."""
        found = self._do(lambda model: [model.standing(job) for job in jobs])
        await asyncio.sleep(0)
        for job, standing in zip(jobs, found, strict=True):
            if standing is None:
                self._do(lambda model, job=job: model.put(job))  # type: ignore[misc]  # the loop's own job
                self.shelf.model.keys.setdefault((job.queue_id, job.idempotency_key or ""), job.tracking_id)
        return [standing or job.tracking_id for job, standing in zip(jobs, found, strict=True)]


@on_ledger("R14")
class LooksBeforeItLocks(Ledger):
    """Reads the file before it takes the lock, so that two processes insert one key."""

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Read, then lock, then write."""
        with self.lock:
            before = self.read()
            model = self.load(before)
            yield model
            after = self.dump(model)
            if after != before:
                with self.locked():
                    now = self.read()
                    known = set(before.splitlines())
                    self.write(now + b"".join(line + b"\n" for line in after.splitlines() if line not in known))


@on_model("R15")
class FreesTheKeyOnCompletion(Model):
    """Frees a key as soon as its job has ended."""

    def put(self, job: JobRecord) -> JobRecord:
        """Keep keys of unfinished jobs only, as a partial unique index does."""
        if job.status in COMPLETE and job.idempotency_key is not None:
            self.keys.pop((job.queue_id, job.idempotency_key), None)
        return super().put(job)

    def delete(self, job: JobRecord) -> None:
        """Delete a job whose key is free already."""
        del self.jobs[job.tracking_id]


@on_model("R15")
class FreesTheKeyWhileItRuns(Model):
    """Deduplicates only against jobs that wait."""

    def standing(self, job: JobRecord) -> UUID | None:
        """Look among those that were never claimed."""
        standing = super().standing(job)
        is_waiting = standing is not None and self.jobs[standing].fence == 0 and self.jobs[standing].finished_at is None
        return standing if is_waiting or standing == job.tracking_id else None


@on_model("R16")
class KeepsTheKeyOfAPurgedJob(Model):
    """Forgets to delete the key with its job."""

    def delete(self, job: JobRecord) -> None:
        """Delete the job alone."""
        del self.jobs[job.tracking_id]


@on_reference("R16")
class MissesTheJobThatIsPurged(ReferenceProvider):
    """Finds that a key stands, awaits, and fails if its job is purged meanwhile."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Insert, look up what stood in the way, and trust that it is there."""
        found = self._do(lambda model: [model.standing(job) for job in jobs])
        await asyncio.sleep(0)
        for standing in filter(None, found):
            self._do(lambda model: model.jobs[standing])  # noqa: B023  # called at once
        return await super().store_jobs(jobs)


class FoldsKeys(Model):
    """Compares keys by a form of theirs."""

    def fold(self, key: str) -> str:
        """Return what is compared."""
        raise NotImplementedError

    def standing(self, job: JobRecord) -> UUID | None:
        """Look for the folded key."""
        if job.idempotency_key is None:
            return super().standing(job)
        wanted = self.fold(job.idempotency_key)
        alike = (
            standing
            for (queue_id, key), standing in self.keys.items()
            if queue_id == job.queue_id and self.fold(key) == wanted
        )
        return next(alike, None)


@on_reference("R16")
class RemembersHolders(ReferenceProvider):
    """Remembers which job holds a key, until it purges something itself."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._holders: dict[tuple[str, str], UUID] = {}

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Ask its own memory first."""
        if len(jobs) != 1 or jobs[0].idempotency_key is None:
            return await super().store_jobs(jobs)
        key = (jobs[0].queue_id, jobs[0].idempotency_key)
        if key not in self._holders:
            (self._holders[key],) = await super().store_jobs(jobs)
        return [self._holders[key]]

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Forget."""
        self._holders.clear()
        return await super().purge_stale_jobs(stale)


@on_model("R17")
class IgnoresTheCaseOfKeys(FoldsKeys):
    """Compares keys without regard to case."""

    def fold(self, key: str) -> str:
        """Fold the case."""
        return key.casefold()


@on_model("R17")
class NormalisesKeys(FoldsKeys):
    """Takes two Unicode forms of a key to be one."""

    def fold(self, key: str) -> str:
        """Compose it."""
        return unicodedata.normalize("NFC", key)


@on_model("R17")
class CutsKeys(FoldsKeys):
    """Compares the first 255 characters of keys."""

    def fold(self, key: str) -> str:
        """Cut it."""
        return key[:255]


@on_model("R17")
class IgnoresTrailingSpace(FoldsKeys):
    """Compares keys as a CHAR column does."""

    def fold(self, key: str) -> str:
        """Strip it."""
        return key.rstrip(" ")


@on_model("R17")
class CutsKeysAt600Bytes(FoldsKeys):
    """Compares the first 599 bytes of keys, as an index with a length limit does."""

    def fold(self, key: str) -> str:
        """Cut it."""
        return key.encode("utf-8", "surrogatepass")[:599].decode("latin-1")


@on_model("R17")
class EndsKeysAtNul(FoldsKeys):
    """Compares keys up to the first NUL."""

    def fold(self, key: str) -> str:
        """Cut it."""
        return key.partition("\0")[0]


@on_memory("R18")
class ChecksTheKeyOnRelease(Relay):
    """Stores a released job anew, and finds its own key in the way."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Refuse what has a key."""
        refused = await super().settle_jobs([s for s in settlements if not isinstance(s.outcome, Release)], now=now)
        for settlement in settlements:
            job = await self.get_job(settlement.lease.tracking_id)
            if isinstance(settlement.outcome, Release) and job is not None and job.idempotency_key is not None:
                refused |= {settlement.lease}
            elif isinstance(settlement.outcome, Release):
                refused |= await super().settle_jobs([settlement], now=now)
        return refused


@on_model("R18")
class RefusesARequeueWithAKey(Model):
    """Finds the key of a job that is requeued taken, by that job."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Look whether the key is free."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.idempotency_key is not None and (job.queue_id, job.idempotency_key) in self.keys:
            return Requeue.NOT_COMPLETE
        return super().requeue(tracking_id, now, expire_on)
