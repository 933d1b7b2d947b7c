"""Storages that break a rule of section J."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier import storage as r
from pannier.inspection import Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay
from pannier_testing.saboteurs.sqlite_aids import MEASURABLE

MICROSECOND = timedelta(microseconds=1)


@on_model("R72")
class ExpiresTooLate(Model):
    """Marks a job EXPIRED after its expiry, not at it."""

    def is_expirable(self, job: JobRecord, now: datetime) -> bool:
        """Compare with <, where <= is meant."""
        return super().is_expirable(job, now - MICROSECOND)


@on_model("R72")
class CountsRetentionFromCreation(Model):
    """Deletes a finished job when it was made long enough ago."""

    def is_over(self, job: JobRecord, stale: StaleJobs, now: datetime) -> bool:
        """Look at created_at."""
        return job.finished_at is not None and super().is_over(evolve(job, finished_at=job.created_at), stale, now)


@on_model("R72")
class KeepsAMomentLonger(Model):
    """Deletes a job after its retention, not at its end."""

    def is_over(self, job: JobRecord, stale: StaleJobs, now: datetime) -> bool:
        """Compare with <, where <= is meant."""
        return super().is_over(job, stale, now - MICROSECOND)


@on_model("R72")
class DeletesWhatHasNoRetention(Model):
    """Takes a status without a retention for one that is not kept."""

    def is_over(self, job: JobRecord, stale: StaleJobs, now: datetime) -> bool:
        """Fall back to zero."""
        keep = stale.keep.get(job.status, timedelta(0))
        return job.finished_at is not None and keep <= now - job.finished_at


@on_model("R72")
class DeletesWhatItHasJustMarked(Model):
    """Marks first and deletes then, in one call."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Do two steps in the wrong order."""
        marked = super().purge(evolve(stale, keep={}))
        return evolve(super().purge(stale), expired=marked.expired)


@on_model("R72")
class PurgesEachQueueToTheLimit(Model):
    """Gives each queue the whole limit of a purge."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Purge queue by queue."""
        queue_ids = {job.queue_id for job in self.jobs.values()} if stale.queue_ids is None else stale.queue_ids
        steps = [super(PurgesEachQueueToTheLimit, self).purge(self.only(stale, queue_id)) for queue_id in queue_ids]
        return Purged(sum(step.expired for step in steps), sum(step.deleted for step in steps))

    def only(self, stale: StaleJobs, queue_id: str) -> StaleJobs:
        """Ask the same of one queue."""
        return evolve(stale, queue_ids=frozenset({queue_id}))


@on_model("R72")
class PurgesWithoutALimit(Model):
    """Deletes and marks everything in one call."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Overlook the limit."""
        return super().purge(evolve(stale, limit=10**9))


@on_model("R72")
class EndsExpiredJobsInThePast(Model):
    """Sets finished_at of an expired job to its expiry, so that its retention has begun before anybody could see it."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Stamp what was marked by this call."""
        before = {job.tracking_id for job in self.jobs.values() if job.status is JobStatus.EXPIRED}
        purged = super().purge(stale)
        for job in list(self.jobs.values()):
            if job.status is JobStatus.EXPIRED and job.tracking_id not in before:
                self.put(evolve(job, finished_at=job.expire_on))
        return purged


@on_model("R73")
class DeletesWhatWaitsTooLong(Model):
    """Deletes pending jobs that are older than any retention."""

    def is_over(self, job: JobRecord, stale: StaleJobs, now: datetime) -> bool:
        """Count age alone."""
        if job.status is JobStatus.PENDING and stale.keep:
            return job.dequeue_after + max(stale.keep.values(), default=timedelta(0)) < now - timedelta(days=500)
        return super().is_over(job, stale, now)


@on_model("R73")
class ExpiresUnderALiveLease(Model):
    """Marks a job EXPIRED while somebody runs it."""

    def is_expirable(self, job: JobRecord, now: datetime) -> bool:
        """Look at no lease."""
        return job.finished_at is None and not self.is_fresh(job, now)


@on_model("R73")
class LooksAtTheOldEndOfALease(Model):
    """Puts an expired job that it meets off to the end of its lease, and keeps to it when a renewal does not."""

    def __init__(self) -> None:
        super().__init__()
        self.put_off: dict[UUID, datetime] = {}

    def purge(self, stale: StaleJobs) -> Purged:
        """Note when to look again."""
        purged = super().purge(stale)
        for job in self.jobs.values():
            if job.status is JobStatus.RUNNING and not self.is_fresh(job, stale.now):
                self.put_off.setdefault(job.tracking_id, job.dequeue_after)
        return purged

    def is_expirable(self, job: JobRecord, now: datetime) -> bool:
        """Look when it was noted."""
        is_later = job.status is JobStatus.RUNNING and now < self.put_off.get(job.tracking_id, now)
        return super().is_expirable(job, now) and not is_later


@on_model("R74")
class StallsBehindWhatIsKept(Model):
    """Looks at the first finished jobs only, and deletes those of them whose retention is over."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Limit, then filter."""
        ended = sorted(
            (job for job in self.jobs.values() if job.finished_at is not None), key=lambda job: str(job.finished_at)
        )
        seen = {job.tracking_id for job in ended[: stale.limit]}
        hidden = [self.jobs.pop(job.tracking_id) for job in ended if job.tracking_id not in seen]
        purged = super().purge(stale)
        for job in hidden:
            self.put(job)
        return purged


@on_model("R74")
class StallsBehindLeases(Model):
    """Looks at the first expired jobs only, and marks those of them that nobody holds."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Limit, then filter."""
        gone = [job for job in self.unfinished({j.queue_id for j in self.jobs.values()}) if job.expire_on is not None]
        ended = sorted((job for job in gone if not self.is_fresh(job, stale.now)), key=lambda job: str(job.expire_on))
        hidden = [self.jobs.pop(job.tracking_id) for job in ended[stale.limit :]]
        purged = super().purge(stale)
        for job in hidden:
            self.put(job)
        return purged


@on_model("R74")
class CountsDeletionsTwice(Model):
    """Counts a job that had a key twice, for its row and for its key's."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Add up all rows."""
        purged = super().purge(stale)
        return evolve(purged, deleted=2 * purged.deleted)


@on_reference("R75")
class PurgesWhatItSaw(ReferenceProvider):
    """Chooses what has expired, awaits, and marks it, whoever has it by now."""

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Select, await, update without a guard."""

        def choose(model: Model) -> list[JobRecord]:
            asked = [j for j in model.jobs.values() if stale.queue_ids is None or j.queue_id in stale.queue_ids]
            return [job for job in asked if model.is_expirable(job, model.down(stale.now))][: stale.limit]

        chosen = self._do(choose)
        await asyncio.sleep(0)
        for job in chosen:
            expired = evolve(job, status=JobStatus.EXPIRED, finished_at=stale.now)
            self._do(_putting(expired))
        purged = await super().purge_stale_jobs(
            evolve(stale, keep={status: age for status, age in stale.keep.items() if status is not JobStatus.EXPIRED})
        )
        return evolve(purged, expired=purged.expired + len(chosen))


def _putting(job: JobRecord) -> Callable[[Model], JobRecord]:
    return lambda model: model.put(job)


@on_model("R76")
class KeepsKeysOfPurgedJobs(Model):
    """Leaves the key of a purged job taken."""

    def delete(self, job: JobRecord) -> None:
        """Delete the row only."""
        del self.jobs[job.tracking_id]


@on_model("R76")
class CountsPurgedJobs(Model):
    """Counts jobs by a counter that a purge does not lower."""

    def count(self, wanted: r.JobFilter) -> dict[tuple[str, JobStatus], int]:
        """Add what was purged."""
        counts = super().count(wanted)
        for job in self._purged():
            if self.matches(job, wanted):
                counts[job.queue_id, job.status] = counts.get((job.queue_id, job.status), 0) + 1
        return counts

    def delete(self, job: JobRecord) -> None:
        """Note it."""
        self._purged().append(job)
        super().delete(job)

    def _purged(self) -> list[JobRecord]:
        purged: list[JobRecord] = vars(self).setdefault("purged", [])
        return purged


@on_sqlite("R76", aids=MEASURABLE)
class LeavesAMarkForEachJob(TransactionalRelay):
    """Leaves a row in a table of its own for each job that was purged."""

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Purge, and leave as many rows."""
        purged = await self.inner.purge_stale_jobs(stale)
        with closing(sqlite3.connect(self.url.text.partition("://")[2])) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS marks (mark TEXT)")
            connection.executemany("INSERT INTO marks VALUES (?)", [("x" * 200,)] * purged.deleted)
        return purged


@on_model("R77")
class RunsExpiredJobs(Model):
    """Hands out a pending job whatever its expiry."""

    def is_claimable(self, job: JobRecord, now: datetime) -> bool:
        """Look at no expiry."""
        return job.dequeue_after <= now


@on_model("R77")
class ForgetsTheCommandOfAnExpiredJob(Model):
    """Drops the payload of a job that is marked EXPIRED."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Make room."""
        purged = super().purge(stale)
        for job in list(self.jobs.values()):
            if job.status is JobStatus.EXPIRED:
                self.put(evolve(job, command=r.Payload(None)))
        return purged


@on_model("R77")
class ForgetsTheErrorsOfAnExpiredJob(Model):
    """Drops the errors of earlier attempts when a job is marked EXPIRED."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Begin the story with its end."""
        purged = super().purge(stale)
        for job in list(self.jobs.values()):
            if job.status is JobStatus.EXPIRED:
                self.put(evolve(job, errors=()))
        return purged


@on_model("R77")
class HidesExpiredJobs(Model):
    """Lists no job that is EXPIRED, unless all statuses are asked for."""

    def find(self, wanted: r.JobFilter) -> list[JobRecord]:
        """Leave them out."""
        return [job for job in super().find(wanted) if wanted.statuses is None or job.status is not JobStatus.EXPIRED]


@on_model("R78")
class PurgesEveryQueue(Model):
    """Ignores which queues a purge is for."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Purge all."""
        return super().purge(evolve(stale, queue_ids=None))


@on_model("R78")
class PurgesAHundredQueues(Model):
    """Looks at the first hundred queues that it is told, as many as go into its statement."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Cut the list."""
        if stale.queue_ids is not None:
            stale = evolve(stale, queue_ids=frozenset(sorted(stale.queue_ids)[:100]))
        return super().purge(stale)


@on_model("R78")
class TakesNoQueuesForAll(Model):
    """Purges all queues when it is given an empty set of them."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Confuse empty with None."""
        return super().purge(evolve(stale, queue_ids=stale.queue_ids or None))


@on_sqlite("R78")
class IgnoresAnExpiryInThePast(TransactionalRelay):
    """Requeues for ever what was to expire already."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Take an expiry that has passed for none."""
        ends = expire_on if expire_on is None or expire_on > now else None
        return await super().requeue_job(tracking_id, now=now, expire_on=ends)


class RequeuesWrongly(Model):
    """Requeues a job, and then changes it once more."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Requeue, and let `spoil` change the record."""
        before = self.jobs.get(tracking_id)
        answer = super().requeue(tracking_id, now, expire_on)
        if answer is Requeue.REQUEUED and before is not None:
            self.put(self.spoil(self.jobs[tracking_id], before))
        return answer

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Return what becomes of the record."""
        return after


@on_model("R78")
class RequeuesUnderTheOldFence(RequeuesWrongly):
    """Keeps the fence of a requeued job, so that its old holder's repeat is accepted."""

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Keep the fence."""
        return evolve(after, fence=before.fence)


@on_model("R78")
class RequeuesWithTheOldExpiry(RequeuesWrongly):
    """Ignores the new expire_on of a requeue."""

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Keep the old one, as long as it lies ahead."""
        is_ahead = before.expire_on is not None and before.expire_on > after.execute_after
        return evolve(after, expire_on=before.expire_on if is_ahead else None)


@on_model("R78")
class TakesNoExpiryForTheOldOne(RequeuesWrongly):
    """Leaves the expiry of a requeued job where it still lies ahead and no other is given, as COALESCE does."""

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Confuse None with "as it was"."""
        is_ahead = before.expire_on is not None and before.expire_on > after.execute_after
        return evolve(after, expire_on=before.expire_on) if after.expire_on is None and is_ahead else after


@on_model("R78")
class RequeuesWithTheOldAttempts(RequeuesWrongly):
    """Goes on counting attempts after a requeue."""

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Keep the count."""
        return evolve(after, attempt=before.attempt)


@on_model("R78")
class ForgetsErrorsOnRequeue(RequeuesWrongly):
    """Clears the errors of a requeued job."""

    def spoil(self, after: JobRecord, before: JobRecord) -> JobRecord:
        """Start with a clean record."""
        return evolve(after, errors=())


@on_model("R78")
class RequeuesWhatSucceeded(Model):
    """Runs a job that has succeeded once more."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Take it for one that has failed."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.SUCCEEDED:
            self.put(evolve(job, status=JobStatus.FAILED))
        return super().requeue(tracking_id, now, expire_on)


@on_model("R78")
class RequeuesWhatRuns(Model):
    """Makes a running job pending."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Take it from its holder."""
        job = self.jobs.get(tracking_id)
        if job is not None and job.status is JobStatus.RUNNING:
            super().cancel(tracking_id, now)
        return super().requeue(tracking_id, now, expire_on)


@on_reference("R78")
class RequeuesWithoutASecondLook(ReferenceProvider):
    """Looks whether a job is complete, awaits, and then writes it back requeued, if it is still there."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Write what was read."""
        before = await self.get_job(tracking_id)
        await asyncio.sleep(0)
        answer = await super().requeue_job(tracking_id, now=now, expire_on=expire_on)
        if before is None or before.finished_at is None or before.status is JobStatus.SUCCEEDED:
            return answer
        return Requeue.REQUEUED


@on_reference("R78")
class DeletesWhatWasRequeued(ReferenceProvider):
    """Chooses what a purge deletes, awaits, and then deletes it, requeued or not."""

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Delete by id alone."""
        chosen = self._do(
            lambda model: [
                job.tracking_id
                for job in model.jobs.values()
                if stale.queue_ids is not None
                and job.queue_id in stale.queue_ids
                and model.is_over(job, stale, model.down(stale.now))
            ]
        )
        await asyncio.sleep(0)
        purged = await super().purge_stale_jobs(stale)
        left = [job for job in self._do(lambda model: list(map(model.get, chosen))) if job is not None]
        waiting = [job for job in left if job.status is JobStatus.PENDING][: stale.limit - purged.deleted]
        for job in waiting:
            self._do(lambda model, job=job: model.delete(job))  # type: ignore[misc]  # an early binding
        return Purged(purged.expired, purged.deleted + len(waiting))
