"""Storages that break a rule of section I."""

import copy
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier import storage as r
from pannier.errors import UnstorableError
from pannier.purging import Purged, StaleJobs
from pannier.records import JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Settlement, Succeeded
from pannier.storage import Capabilities
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import CAPABILITIES, ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_model, on_reference

LIMIT = 100_000


@on_model("R68")
class TakesNoneForNoResult(Model):
    """Keeps no result where the result is None."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Store NULL for null."""
        after = super().settled(job, outcome, now)
        return evolve(after, result=None) if after.result == Payload(None) else after


@on_model("R68")
class ShowsProgressAsResult(Model):
    """Gives the progress of a job that has no result in the place of it."""

    def result(self, tracking_id: UUID) -> StoredResult | None:
        """Take what there is."""
        stored = super().result(tracking_id)
        return None if stored is None else evolve(stored, result=stored.result or stored.progress)


@on_model("R68")
class ForgetsTheEncodingOfResults(Model):
    """Reads every result as if it were written by the default codec."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Keep the data only."""
        after = super().settled(job, outcome, now)
        return after if after.result is None else evolve(after, result=Payload(after.result.data))


@on_model("R68")
class FindsAResultForEveryId(Model):
    """Answers for a job that does not exist as if it were pending."""

    def result(self, tracking_id: UUID) -> StoredResult | None:
        """Invent one."""
        invented = StoredResult(status=JobStatus.PENDING, progress=None, result=None, errors=())
        return super().result(tracking_id) or invented


@on_reference("R69")
class KeepsProgressInTheInstance(ReferenceProvider):
    """Keeps progress in a dict of the instance."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._progress: dict[UUID, Payload] = {}

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Note it here."""
        stands = self._do(lambda model: model.holds(lease))
        if stands:
            self._progress[lease.tracking_id] = progress
        return stands

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Forget what is done."""
        refused = await super().settle_jobs(settlements, now=now)
        for settlement in settlements:
            if isinstance(settlement.outcome, Succeeded):
                self._progress.pop(settlement.lease.tracking_id, None)
        return refused

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Add what is noted."""
        job = await super().get_job(tracking_id)
        return None if job is None else evolve(job, progress=self._progress.get(tracking_id))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Add what is noted."""
        stored = await super().get_job_result(tracking_id)
        return None if stored is None else evolve(stored, progress=self._progress.get(tracking_id))


@on_model("R69")
class KeepsTheFirstProgress(Model):
    """Stores progress only where there is none yet."""

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Insert, and ignore conflicts."""
        if self.holds(lease) and self.jobs[lease.tracking_id].progress is not None:
            return True
        return super().report(lease, progress)


@on_model("R69")
class ForgetsProgressOnRetry(Model):
    """Clears the progress of a job that is given back."""

    def waiting(self, job: JobRecord, at: datetime) -> JobRecord:
        """Start afresh."""
        return evolve(super().waiting(job, at), progress=None)


@on_model("R69")
class KeepsProgressBesideTheResult(Model):
    """Leaves the progress of a job that has succeeded."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Keep both."""
        return evolve(super().settled(job, outcome, now), progress=job.progress)


@on_model("R69")
class KeepsProgressOverARequeue(Model):
    """Leaves the progress of a job that is requeued."""

    def requeue(self, tracking_id: UUID, now: datetime, expire_on: datetime | None) -> r.Requeue:
        """Keep it."""
        before = self.jobs.get(tracking_id)
        answer = super().requeue(tracking_id, now, expire_on)
        if answer is r.Requeue.REQUEUED and before is not None:
            self.put(evolve(self.jobs[tracking_id], progress=before.progress))
        return answer


@on_model("R69")
class ForgetsProgressOfALateRetry(Model):
    """Clears the progress of a job whose retry would come too late."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Clear it by this path alone."""
        after = super().settled(job, outcome, now)
        is_late = isinstance(outcome, r.Retry) and after.status is JobStatus.FAILED
        return evolve(after, progress=None) if is_late else after


@on_model("R69")
class RefusesProgressOfTheLapsed(Model):
    """Takes a lease that has lapsed, by the last now that it heard of, for one that is lost."""

    def down(self, at: datetime) -> datetime:
        """Note how late it is."""
        self.latest = max(vars(self).get("latest", at), at)
        return super().down(at)

    def report(self, lease: Lease, progress: Payload) -> bool:
        """Look at the end of the lease."""
        if self.holds(lease) and self.jobs[lease.tracking_id].dequeue_after <= self.latest:
            return False
        return super().report(lease, progress)


@on_model("R70")
class GivesAResultOnce(Model):
    """Deletes a result when it is read, as a message is taken from a queue."""

    def result(self, tracking_id: UUID) -> StoredResult | None:
        """Take it."""
        stored = super().result(tracking_id)
        if stored is not None and stored.result is not None:
            self.put(evolve(self.jobs[tracking_id], result=None))
        return stored


@on_reference("R70")
class RemembersResults(ReferenceProvider):
    """Keeps a copy of each result that it has read, since results never change."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._read: dict[UUID, StoredResult] = {}

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Ask its own memory first."""
        self._check_open()
        found = self._read.get(tracking_id) or await super().get_job_result(tracking_id)
        if found is not None and found.status is JobStatus.SUCCEEDED:
            self._read[tracking_id] = copy.deepcopy(found)
        return found

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Forget."""
        self._read.clear()
        return await super().purge_stale_jobs(stale)


@on_model("R70")
class KeepsResultsOfPurgedJobs(Model):
    """Keeps the results of jobs that were purged."""

    def delete(self, job: JobRecord) -> None:
        """Leave what stands in the other table."""
        left: dict[UUID, StoredResult | None] = vars(self).setdefault("left", {})
        left[job.tracking_id] = super().result(job.tracking_id)
        super().delete(job)

    def result(self, tracking_id: UUID) -> StoredResult | None:
        """Look there, too."""
        left: dict[UUID, StoredResult | None] = vars(self).setdefault("left", {})
        return super().result(tracking_id) or left.get(tracking_id)


@on_model("R70")
class ForgetsResultsAfterHalfAMinute(Model):
    """Drops a result at the first purge that is half a minute later, whatever its job's retention."""

    def purge(self, stale: r.StaleJobs) -> r.Purged:
        """Have results expire by themselves."""
        for job in list(self.jobs.values()):
            if job.finished_at is not None and job.finished_at + timedelta(seconds=30) <= stale.now:
                self.put(evolve(job, result=None))
        return super().purge(stale)


def size_of(payload: Payload | None) -> int:
    """Return the size of a payload of text or bytes."""
    if payload is None or not isinstance(payload.data, str | bytes):
        return 0
    return len(payload.data) + 2 * isinstance(payload.data, str)


class LimitsResults(ReferenceProvider):
    """Declares that a payload has at most 100,000 bytes."""

    @property
    def capabilities(self) -> Capabilities:
        """Declare the limit."""
        return evolve(CAPABILITIES, max_payload=LIMIT)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Refuse what is too large before anything is written."""
        for settlement in settlements:
            outcome = settlement.outcome
            if isinstance(outcome, Succeeded) and size_of(outcome.result) > LIMIT:
                return await self.settle_oversize(settlement, now)
        return await super().settle_jobs(settlements, now=now)

    async def settle_oversize(self, settlement: Settlement, now: datetime) -> frozenset[Lease]:
        """Refuse it."""
        raise UnstorableError(settlement.lease.tracking_id, "it is too large")

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Refuse what is too large."""
        if size_of(progress) > LIMIT:
            raise UnstorableError(lease.tracking_id, "it is too large")
        return await super().store_progress(lease, progress)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Refuse what is too large."""
        for job in jobs:
            if size_of(job.command) > LIMIT:
                raise UnstorableError(job.tracking_id, "it is too large")
        return await super().store_jobs(jobs)


@on_reference("R71")
class SucceedsWithoutAnOversizeResult(LimitsResults):
    """Marks a job SUCCEEDED, and drops the result that is too large."""

    async def settle_oversize(self, settlement: Settlement, now: datetime) -> frozenset[Lease]:
        """Keep the status."""
        return await super().settle_jobs([Settlement(settlement.lease, Succeeded())], now=now)


@on_reference("R71")
class ReleasesTheJobOfAnOversizeResult(LimitsResults):
    """Refuses an oversize result, and gives its job back."""

    async def settle_oversize(self, settlement: Settlement, now: datetime) -> frozenset[Lease]:
        """Let somebody else try."""
        await super().settle_jobs([Settlement(settlement.lease, r.Release())], now=now)
        return await super().settle_oversize(settlement, now)


@on_reference("R71")
class NamesNoJobOfAnOversizeResult(LimitsResults):
    """Refuses an oversize result without saying which job it is of."""

    async def settle_oversize(self, settlement: Settlement, now: datetime) -> frozenset[Lease]:
        """Say that something is too large."""
        raise UnstorableError(None, "it is too large")


@on_reference("R71")
class TruncatesProgress(LimitsResults):
    """Cuts progress that is too large."""

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Keep the start."""
        if isinstance(progress.data, bytes | str) and size_of(progress) > LIMIT:
            return await super().store_progress(lease, Payload(progress.data[: LIMIT - 2]))
        return await super().store_progress(lease, progress)
