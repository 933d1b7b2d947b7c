"""Storages that break a rule of section J by how they requeue, or count what they purge."""

import asyncio
from datetime import datetime
from uuid import UUID

from attrs import evolve

from pannier.inspection import Requeue
from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference


@on_model("R74")
class CountsResultsAsJobs(Model):
    """Counts each result that goes with its job."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Add up what two statements have deleted."""
        before = self.results()
        purged = super().purge(stale)
        return evolve(purged, deleted=purged.deleted + before - self.results())

    def results(self) -> int:
        """Count the rows of the other table."""
        return sum(job.result is not None for job in self.jobs.values())


@on_model("R74")
class CountsUpToTheLimit(Model):
    """Counts one job too few where a whole step of more than one was marked."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Number them from 0."""
        purged = super().purge(stale)
        return evolve(purged, expired=purged.expired - (purged.expired == stale.limit > 1))


@on_reference("R75")
class PurgesWhatIsRequeued(ReferenceProvider):
    """Chooses what to delete, awaits, and deletes what has been requeued meanwhile."""

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Delete by the ids alone."""

        def chosen(model: Model) -> list[UUID]:
            asked = [job for job in model.jobs.values() if stale.queue_ids is None or job.queue_id in stale.queue_ids]
            return [job.tracking_id for job in asked if model.is_over(job, stale, stale.now)][: stale.limit]

        def delete(model: Model) -> int:
            there = [model.jobs[tracking_id] for tracking_id in ids if tracking_id in model.jobs]
            for job in there:
                model.delete(job)
            return len(there)

        ids = self._do(chosen)
        marked = await super().purge_stale_jobs(evolve(stale, keep={}))
        await asyncio.sleep(0)
        return evolve(marked, deleted=self._do(delete))


@on_reference("R78")
class RequeuesTwice(ReferenceProvider):
    """Looks whether a job has ended, awaits, and requeues it, whoever has done so or runs it by now."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Write the row as it was read."""
        row = await self.get_job(tracking_id)
        await asyncio.sleep(0)
        if row is not None and row.finished_at is not None:
            self._do(lambda model: model.put(row))
        return await super().requeue_job(tracking_id, now=now, expire_on=expire_on)


@on_model("R78")
class RequeuesInSeconds(Model):
    """Keeps the times of a requeue in whole seconds."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Cut the rest off."""
        return super().requeue(tracking_id, now.replace(microsecond=0), expire_on)


@on_model("R78")
class PurgesTheRequeued(Model):
    """Keeps what is to be purged in a list of its own, and does not take off it what is requeued."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[UUID, JobRecord] = {}

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Remember how it ended."""
        ended = self.jobs.get(tracking_id)
        answer = super().requeue(tracking_id, now, expire_on)
        if answer is Requeue.REQUEUED and ended is not None:
            self.ended[tracking_id] = ended
        return answer

    def is_over(self, job: JobRecord, stale: StaleJobs, now: datetime) -> bool:
        """Look at the list."""
        listed = self.ended.get(job.tracking_id, job) if job.status is JobStatus.PENDING else job
        return super().is_over(listed, stale, now)


@on_model("R78")
class PurgesOneQueueOfSeveral(Model):
    """Purges the first of the queues that it is given."""

    def purge(self, stale: StaleJobs) -> Purged:
        """Take one parameter."""
        first = None if stale.queue_ids is None else frozenset(sorted(stale.queue_ids)[:1])
        return super().purge(evolve(stale, queue_ids=first))


@on_model("R78")
class RequeuesForTheOldTime(Model):
    """Lets a requeued job wait for the time that it once had, where that is to come."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> Requeue:
        """Take the later of the two."""
        job = self.jobs.get(tracking_id)
        answer = super().requeue(tracking_id, now, expire_on)
        if job is not None and answer is Requeue.REQUEUED and now < job.execute_after:
            self.put(evolve(self.jobs[tracking_id], execute_after=job.execute_after, dequeue_after=job.execute_after))
        return answer
