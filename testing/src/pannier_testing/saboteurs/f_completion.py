"""Storages that break a rule of section F."""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime

from attrs import evolve

from pannier.claims import Claim
from pannier.records import JobRecord, JobStatus, Lease
from pannier.settlements import Failed, Outcome, Settlement, Succeeded
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_ledger, on_memory, on_model, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_model("R48")
class RunsWhatSucceededAgain(Model):
    """Takes a job over when the lease under which it succeeded ends."""

    def unfinished(self, queue_ids: Iterable[str]) -> list[JobRecord]:
        """Look at `dequeue_after`, not at the status."""
        ended = [job for job in self.jobs.values() if job.status is JobStatus.SUCCEEDED and job.queue_id in queue_ids]
        return super().unfinished(queue_ids) + ended

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Begin again."""
        if job.finished_at is not None:
            job = evolve(job, status=JobStatus.RUNNING, finished_at=None)
        return super().leased(job, claim)


@on_ledger("R48")
class ForgetsWhatWasCancelled(Ledger):
    """Reads cancelled jobs back as waiting ones."""

    def load(self, text: bytes) -> Model:
        """Keep the status of other jobs only."""
        model = super().load(text)
        if not self.__dict__.setdefault("is_read", False):
            for job in list(model.jobs.values()):
                if job.status is JobStatus.CANCELLED:
                    model.put(evolve(job, status=JobStatus.PENDING, finished_at=None))
            self.__dict__["is_read"] = bool(text)
        return model


@on_model("R48")
class LetsFailedJobsBeRetried(Model):
    """Lets a late Retry make a failed job wait again."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Check the fence only."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is not None and job.status is JobStatus.FAILED and job.fence == settlement.lease.fence:
            self.put(evolve(job, status=JobStatus.RUNNING, finished_at=None))
        return super().settle_one(settlement, now)


@on_reference("R49")
class SucceedsBeforeItsResult(ReferenceProvider):
    """Stores the status, awaits, and then stores the result."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle in two steps."""
        bare = [evolve(s, outcome=Succeeded()) if isinstance(s.outcome, Succeeded) else s for s in settlements]
        refused = await super().settle_jobs(bare, now=now)
        await asyncio.sleep(0)
        for settlement in settlements:
            outcome, tracking_id = settlement.outcome, settlement.lease.tracking_id
            if isinstance(outcome, Succeeded) and settlement.lease not in refused:
                job = self.shelf.model.jobs[tracking_id]
                self.shelf.model.put(evolve(job, result=outcome.result))
        return refused


@on_sqlite("R49")
class CommitsTheResultLater(TransactionalRelay):
    """Stores SUCCEEDED in one transaction and the result in another."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle in two transactions."""
        bare = [evolve(s, outcome=Succeeded()) if isinstance(s.outcome, Succeeded) else s for s in settlements]
        refused = await super().settle_jobs(bare, now=now)
        results = {
            str(settlement.lease.tracking_id): settlement.outcome.result
            for settlement in settlements
            if isinstance(settlement.outcome, Succeeded) and settlement.outcome.result is not None
        }
        with closing(sqlite3.connect(self.url.path, isolation_level=None)) as connection:
            for tracking_id, result in results.items():
                connection.execute(
                    "UPDATE pannier_jobs SET result = ?, result_encoding = ? WHERE tracking_id = ?",
                    (json.dumps(result.data), result.encoding, tracking_id),
                )
        return refused


@on_model("R50")
class RefusesRepeats(Model):
    """Refuses a settlement whose effect stands already."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Ask for a running job."""
        return self.holds(settlement.lease) and super().settle_one(settlement, now)


@on_model("R50")
class AcceptsWhateverComesSecond(Model):
    """Accepts any settlement under the fence of the one that was applied."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Compare the fence only."""
        job = self.jobs.get(settlement.lease.tracking_id)
        is_settled = job is not None and job.finished_at is not None and job.fence == settlement.lease.fence
        return super().settle_one(settlement, now) or (is_settled and settlement.lease.fence > 0)


@on_model("R50")
class AppliesRepeats(Model):
    """Applies a repeated settlement again."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Update wherever fence and status agree."""
        is_accepted = super().settle_one(settlement, now)
        job = self.jobs.get(settlement.lease.tracking_id)
        if is_accepted and job is not None and job.finished_at is not None:
            self.put(evolve(job, finished_at=now))
        return is_accepted


@on_model("R50")
class ForgetsThatALateRetryFails(Model):
    """Takes the repeat of a retry that came too late, and failed its job, to lead to PENDING."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Ask the outcome, not the job."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is not None and job.status is JobStatus.FAILED and type(settlement.outcome).__name__ == "Retry":
            return False
        return super().settle_one(settlement, now)


class SettlesInStatus(Model):
    """Settles jobs of a status in which nobody holds them, whatever the fence."""

    status: JobStatus

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Take the job to be running."""
        job = self.jobs.get(settlement.lease.tracking_id)
        if job is not None and job.status is self.status and job.fence <= settlement.lease.fence:
            settled = self.settled(evolve(job, status=JobStatus.RUNNING, finished_at=None), settlement.outcome, now)
            self.put(evolve(settled, attempt=max(settled.attempt, 0)))
            return True
        return super().settle_one(settlement, now)

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """Count no attempt below 0."""
        return super().settled(evolve(job, attempt=max(job.attempt, 1)), outcome, now)


@on_model("R51")
class SettlesWhatWasNeverClaimed(SettlesInStatus):
    """Settles waiting jobs."""

    status = JobStatus.PENDING


@on_model("R51")
class SettlesCancelledJobs(SettlesInStatus):
    """Settles cancelled jobs."""

    status = JobStatus.CANCELLED


@on_model("R51")
class SettlesWhatHasExpired(SettlesInStatus):
    """Settles expired jobs."""

    status = JobStatus.EXPIRED


@on_memory("R51")
class AcceptsWhatIsGone(Relay):
    """Says of a job that was purged that its settlement was applied."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Take a missing row for a done one."""
        refused = await super().settle_jobs(settlements, now=now)
        return frozenset([lease for lease in refused if await self.get_job(lease.tracking_id) is not None])


@on_reference("R52")
class WritesTheWholeRow(ReferenceProvider):
    """Reads the job, awaits, and writes it back whole as it was settled."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Read, modify, write."""
        before = {s.lease: self.shelf.model.jobs.get(s.lease.tracking_id) for s in settlements}
        refused = frozenset(lease for lease, job in before.items() if job is None or not self.shelf.model.holds(lease))
        await asyncio.sleep(0)
        for settlement in settlements:
            job = before[settlement.lease]
            if job is not None and settlement.lease not in refused:
                self.shelf.model.put(self.shelf.model.settled(job, settlement.outcome, now))
        return refused


@on_model("R51")
class TakesAnyFailureForARepeat(Model):
    """Accepts Failed of a job that has failed, whatever the fence."""

    def settle_one(self, settlement: Settlement, now: datetime) -> bool:
        """Look at the status alone."""
        job = self.jobs.get(settlement.lease.tracking_id)
        has_failed = job is not None and job.status is JobStatus.FAILED and settlement.lease.fence <= job.fence
        return (has_failed and isinstance(settlement.outcome, Failed)) or super().settle_one(settlement, now)


@on_model("R52")
class ForgetsErrorsOfWhatSucceeded(Model):
    """Clears the errors of earlier attempts when one succeeds."""

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """All is well in the end."""
        after = super().settled(job, outcome, now)
        return evolve(after, errors=()) if isinstance(outcome, Succeeded) else after


@on_model("R52")
class ClearsMetadata(Model):
    """Empties the metadata of a job that has ended."""

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """Write a row of its own."""
        return evolve(super().settled(job, outcome, now), metadata={})


@on_model("R52")
class KeepsLapsesOfWhatSucceeded(Model):
    """Leaves `lapses` as it was."""

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """Forget a field."""
        return evolve(super().settled(job, outcome, now), lapses=job.lapses)


@on_ledger("R49")
class KeepsTheResultAsProgressFirst(Ledger):
    """Stores a result where progress stands, in one transaction, and moves it when the job has succeeded."""

    def write(self, text: bytes) -> None:
        """Write twice."""
        old, new = self.load(self.read()), self.load(text)
        half = self.load(self.read())
        for job in new.jobs.values():
            before = old.jobs.get(job.tracking_id)
            if before is not None and before.status is JobStatus.RUNNING and job.result is not None:
                half.put(evolve(before, progress=job.result))
        super().write(self.dump(half))
        super().write(text)
