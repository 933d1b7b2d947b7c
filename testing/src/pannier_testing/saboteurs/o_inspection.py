"""Storages that break a rule of section O."""

from collections.abc import Mapping
from uuid import UUID

from attrs import evolve

from pannier.inspection import JobFilter, JobPage
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_memory, on_model, on_reference
from pannier_testing.saboteurs.relay import Relay


@on_model("R97")
class TakesNoStatusesForAll(Model):
    """Lists everything when it is given an empty set of statuses."""

    def matches(self, job: JobRecord, wanted: JobFilter) -> bool:
        """Confuse empty with None."""
        return super().matches(job, evolve(wanted, statuses=wanted.statuses or None))


@on_model("R97")
class FiltersByOneEntryOfMetadata(Model):
    """Lists a job that has any of the entries that were asked for."""

    def matches(self, job: JobRecord, wanted: JobFilter) -> bool:
        """Say or, where and is meant."""
        is_found = not wanted.metadata or bool(wanted.metadata.items() & job.metadata.items())
        return is_found and super().matches(job, evolve(wanted, metadata={}))


@on_model("R97")
class FiltersByTheKeysOfMetadata(Model):
    """Lists a job that has the names that were asked for, whatever their values."""

    def matches(self, job: JobRecord, wanted: JobFilter) -> bool:
        """Look at names only."""
        return wanted.metadata.keys() <= job.metadata.keys() and super().matches(job, evolve(wanted, metadata={}))


@on_model("R97")
class FiltersQueuesInAnyCase(Model):
    """Lists the jobs of "Mail" with those of "mail"."""

    def matches(self, job: JobRecord, wanted: JobFilter) -> bool:
        """Ignore case."""
        asked = None if wanted.queue_ids is None else frozenset(queue.lower() for queue in wanted.queue_ids)
        return super().matches(evolve(job, queue_id=job.queue_id.lower()), evolve(wanted, queue_ids=asked))


@on_model("R97")
class CountsWhatRunsAsPending(Model):
    """Counts running jobs among the pending ones."""

    def count(self, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
        """Count what is not finished."""
        counts: dict[tuple[str, JobStatus], int] = {}
        for (queue, status), count in super().count(wanted).items():
            told = JobStatus.PENDING if status is JobStatus.RUNNING else status
            counts[queue, told] = counts.get((queue, told), 0) + count
        return counts


@on_model("R97")
class CountsAThousand(Model):
    """Counts what one answer of its engine holds."""

    def count(self, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
        """Read one page."""
        return {which: min(count, 1_000) for which, count in super().count(wanted).items()}


@on_model("R97")
class CountsInAHundredQueues(Model):
    """Lists and counts the jobs of the first hundred queues that it is asked for."""

    def find(self, wanted: JobFilter) -> list[JobRecord]:
        """Cut the list."""
        if wanted.queue_ids is not None:
            wanted = evolve(wanted, queue_ids=frozenset(sorted(wanted.queue_ids)[:100]))
        return super().find(wanted)


@on_reference("R97")
class ListsWithoutErrors(ReferenceProvider):
    """Lists jobs without their errors, to save a join."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Leave them out."""
        page = await super().find_jobs(wanted, cursor=cursor, limit=limit)
        return JobPage(tuple(evolve(job, errors=()) for job in page.jobs), page.cursor)


@on_memory("R97")
class EstimatesCounts(Relay):
    """Counts at most 10 jobs of a kind, as a cheap estimate."""

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Stop counting."""
        return {which: min(count, 5) for which, count in (await self.inner.count_jobs(wanted)).items()}


class PagesInAnotherOrder(ReferenceProvider):
    """Pages through jobs by their place in an order that changes."""

    def turn(self, job: JobRecord) -> object:
        """Return what the order is by."""
        return str(job.tracking_id)

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Skip as many as were listed."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
            raise ValueError("the cursor was not given out by this storage")
        start = int(cursor or 0)
        found = self._do(lambda model: sorted(model.find(wanted), key=lambda job: str(self.turn(job))))
        page = found[start : start + limit]
        return JobPage(tuple(page), str(start + limit) if len(found) > start + limit else None)


@on_reference("R98")
class PagesByOffset(PagesInAnotherOrder):
    """Pages by how many jobs to skip, as OFFSET does."""


@on_reference("R98")
class PagesByStatus(PagesInAnotherOrder):
    """Pages by how many jobs to skip of a list that is sorted by status."""

    def turn(self, job: JobRecord) -> object:
        """Sort by what changes."""
        return (job.status, job.tracking_id)


@on_reference("R98")
class ListsAThousand(ReferenceProvider):
    """Cuts a page after 1,000 jobs, whatever was asked for, and does not say that there are more."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Protect the server."""
        page = await super().find_jobs(wanted, cursor=cursor, limit=limit)
        return JobPage(page.jobs[:1_000], page.cursor)


@on_reference("R98")
class PagesByTime(ReferenceProvider):
    """Pages in the order of dequeue_after, which claims and retries change."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Go on after the last time and id."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        if cursor is not None and len(cursor.split("|")) != 2:
            raise ValueError("the cursor was not given out by this storage")

        def turn(job: JobRecord) -> str:
            return f"{job.dequeue_after.isoformat()}|{job.tracking_id}"

        found = self._do(lambda model: sorted(model.find(wanted), key=turn))
        page = [job for job in found if cursor is None or turn(job) > cursor]
        more = turn(page[limit - 1]) if len(page) > limit else None
        return JobPage(tuple(page[:limit]), more)


@on_model("R99")
class CountsALookAsAnAttempt(Model):
    """Raises the attempt of each job that is listed."""

    def find(self, wanted: JobFilter) -> list[JobRecord]:
        """Touch what is read."""
        found = super().find(wanted)
        for job in found:
            if job.status is JobStatus.PENDING:
                self.put(evolve(job, attempt=job.attempt + 1))
        return found

    def count(self, wanted: JobFilter) -> dict[tuple[str, JobStatus], int]:
        """Count without a touch."""
        counts: dict[tuple[str, JobStatus], int] = {}
        for job in super().find(wanted):
            counts[job.queue_id, job.status] = counts.get((job.queue_id, job.status), 0) + 1
        return counts


@on_model("R99")
class PostponesWhatIsLookedAt(Model):
    """Keeps a job that somebody looks at from being claimed for a while, as a visibility timeout does."""

    def get(self, tracking_id: UUID) -> JobRecord | None:
        """Move it to the end of its queue."""
        job = super().get(tracking_id)
        if job is not None and job.status is JobStatus.PENDING and job.attempt == 0 and tracking_id in self._seen():
            self.jobs[tracking_id] = self.jobs.pop(tracking_id)
            return self.put(evolve(job, dequeue_after=max(job.dequeue_after, job.execute_after) + self.grid))
        self._seen().add(tracking_id)
        return job

    def _seen(self) -> set[UUID]:
        seen: set[UUID] = vars(self).setdefault("seen", set())
        return seen


@on_reference("R99")
class BeginsAnewAtABadCursor(ReferenceProvider):
    """Lists from the start where it does not know the cursor."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Ignore what is not understood."""
        try:
            return await super().find_jobs(wanted, cursor=cursor, limit=limit)
        except ValueError:
            return await super().find_jobs(wanted, limit=max(1, limit))


@on_model("R97")
class ListsWithoutProgress(Model):
    """Lists jobs without their progress, to save a join."""

    def find(self, wanted: JobFilter) -> list[JobRecord]:
        """Leave it out."""
        return [evolve(job, progress=None) for job in super().find(wanted)]


@on_reference("R98")
class LosesItsPlace(ReferenceProvider):
    """Ends a listing where the job on which the page before ended is gone."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Look that job up."""
        page = await super().find_jobs(wanted, cursor=cursor, limit=limit)
        is_lost = cursor is not None and await self.get_job(UUID(cursor)) is None
        return JobPage((), None) if is_lost else page
