"""Storages that break a rule of section U."""

from datetime import datetime
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.inspection import JobFilter
from pannier.records import Cancellation, JobRecord, JobStatus
from pannier.settlements import Settlement
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_memory, on_model, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay
from pannier_testing.saboteurs.sqlite_aids import file_of, written


@on_model("R119")
class ScansEveryJob(Model):
    """Looks at all jobs for each claim and sorts what is due: the reference model itself, made to be read."""


@on_memory("R119")
class ScansTheExpired(Relay):
    """Looks at all expired jobs for each claim, those that are marked already, too."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Count them, then claim."""
        await self.inner.count_jobs(JobFilter(statuses=frozenset({JobStatus.EXPIRED})))
        return await super().claim_jobs(claim)


@on_sqlite("R119")
class SortsWhatIsDue(TransactionalRelay):
    """Finds the waiting jobs of a priority by an index, and sorts them by their times for each claim."""

    async def open(self) -> None:
        """Make an index without the times, where nobody has yet."""
        await super().open()
        with written(file_of(self.url.text)) as connection:
            index = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'pannier_jobs_waiting'").fetchone()
            if "dequeue_after" in index[0]:
                connection.execute("DROP INDEX pannier_jobs_waiting")
                connection.execute(index[0].replace("dequeue_after, ", ""))


class LooksThrough(Model):
    """Finds a job by looking at one after another."""

    def look_for(self, tracking_id: UUID) -> JobRecord | None:
        """Look through all jobs."""
        return next((job for key, job in self.jobs.items() if key == tracking_id), None)


@on_model("R120")
class GetsByScanning(LooksThrough):
    """Has no index on the id for get_job."""

    def get(self, tracking_id: UUID) -> JobRecord | None:
        """Look through all jobs first."""
        self.look_for(tracking_id)
        return super().get(tracking_id)


@on_model("R120")
class SettlesByScanning(LooksThrough):
    """Has no index on the id for settle_jobs."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Look through all jobs first."""
        self.look_for(settlement.lease.tracking_id)
        return super().settle_one(settlement, now)


@on_model("R120")
class CancelsByScanning(LooksThrough):
    """Has no index on the id for cancel_job."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Look through all jobs first."""
        self.look_for(tracking_id)
        return super().cancel(tracking_id, now)


@on_model("R120")
class StoresByScanning(LooksThrough):
    """Has no index on the id for store_jobs."""

    def store_one(self, job: JobRecord) -> UUID:
        """Look through all jobs first."""
        self.look_for(job.tracking_id)
        return super().store_one(job)
