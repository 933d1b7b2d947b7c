"""Storages and values that break a rule of section G."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve, frozen

from pannier import storage as r
from pannier.errors import StorageRefusedError
from pannier.records import JobError, JobRecord, JobStatus
from pannier_testing.reference.ledger import Ledger
from pannier_testing.reference.model import Model
from pannier_testing.saboteurs.making import on_ledger, on_model, on_sqlite, on_values
from pannier_testing.saboteurs.relay import TransactionalRelay
from pannier_testing.saboteurs.sqlite_aids import DAMAGEABLE, file_of, written


@on_model("R53")
class RetriesAtOnce(Model):
    """Drops the delay of a retry."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Put a retried job back as of now."""
        after = super().settled(job, outcome, now)
        is_retried = isinstance(outcome, r.Retry) and after.status is JobStatus.PENDING
        return evolve(after, dequeue_after=now) if is_retried else after


@on_model("R53")
class KeepsTheLeaseOfARetry(Model):
    """Hides a retried job until its lease would have ended, if that is later."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Leave the lease where it was."""
        after = super().settled(job, outcome, now)
        is_retried = isinstance(outcome, r.Retry) and after.status is JobStatus.PENDING
        return evolve(after, dequeue_after=max(after.dequeue_after, job.dequeue_after)) if is_retried else after


@on_model("R53")
class CountsLapsesAsAttempts(Model):
    """Does not take the lapses off the attempts when a job is retried."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Keep the number of attempts."""
        after = super().settled(job, outcome, now)
        return evolve(after, attempt=job.attempt) if isinstance(outcome, r.Retry) else after


@on_model("R53")
class ForgetsTheKeyOfARetry(Model):
    """Loses the idempotency key when a job is retried."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Write the row anew, without the key."""
        after = super().settled(job, outcome, now)
        return evolve(after, idempotency_key=None) if isinstance(outcome, r.Retry) else after


@on_model("R54")
class CountsEqualErrorsOnce(Model):
    """Keeps one of several errors in a row that say the same."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Replace the one before."""
        is_same = bool(job.errors) and (job.errors[-1].kind, job.errors[-1].message) == (error.kind, error.message)
        return super().noted(evolve(job, errors=job.errors[:-1]) if is_same else job, error)


@on_model("R54")
class KeepsAnErrorAnAttempt(Model):
    """Keeps errors by their attempts, of which a lapse or a requeue repeats some."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Put it into a dict."""
        return super().noted(evolve(job, errors=tuple(e for e in job.errors if e.attempt != error.attempt)), error)


@on_model("R54")
class CountsErrorsInSeconds(Model):
    """Keeps the times of errors in whole seconds."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Cut the rest off."""
        return super().noted(job, evolve(error, at=error.at.replace(microsecond=0)))


@on_model("R54")
class NumbersErrorsItself(Model):
    """Writes its own count of attempts into an error."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Take the job's."""
        return super().noted(job, evolve(error, attempt=job.attempt))


@on_model("R54")
class RemembersTheLastErrorOnly(Model):
    """Overwrites the history of errors."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Keep one."""
        return (error,)


@on_model("R54")
class RemembersEveryError(Model):
    """Lets the history of errors grow without bound."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Keep all."""
        return (*job.errors, error)


@on_model("R54")
class PutsTheLastErrorFirst(Model):
    """Keeps the errors newest first."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Put it before the others."""
        return (error, *job.errors)[:10]


@on_model("R54")
class KeepsTheFirstErrors(Model):
    """Keeps the first 10 errors and drops those that follow."""

    def noted(self, job: JobRecord, error: JobError) -> tuple[JobError, ...]:
        """Drop it, if there are enough."""
        return (*job.errors, error)[:10]


@on_values("R54", "job_error")
@frozen(kw_only=True)
class CutsErrorsByCharacters(JobError):  # noqa: N818  # no exception
    """Cuts an error's texts after so many characters, which are more bytes."""

    def __attrs_post_init__(self) -> None:
        message = self.message
        super().__attrs_post_init__()
        object.__setattr__(self, "message", message.replace("\0", "").encode("utf-8", "replace").decode()[:4096])


@on_values("R54", "job_error")
@frozen(kw_only=True)
class KeepsNulInErrors(JobError):  # noqa: N818  # no exception
    """Stores an error's message with its NUL characters."""

    def __attrs_post_init__(self) -> None:
        message = self.message
        super().__attrs_post_init__()
        object.__setattr__(self, "message", message.encode("utf-8", "replace")[:4096].decode("utf-8", "ignore"))


@on_model("R55")
class ForgetsTheCommandOfAFailedJob(Model):
    """Drops the payload of a job that has failed."""

    def failed(self, job: JobRecord, error: JobError, now: datetime) -> JobRecord:
        """Make room."""
        return evolve(super().failed(job, error, now), command=r.Payload(None))


@on_model("R55")
class TriesFailedJobsAgainTomorrow(Model):
    """Makes a job that has failed for good pending again, for the next day."""

    def failed(self, job: JobRecord, error: JobError, now: datetime) -> JobRecord:
        """Give it another chance."""
        return evolve(self.waiting(job, now + timedelta(days=1)), lapses=0, errors=self.noted(job, error))


@on_sqlite("R56", aids=DAMAGEABLE)
class RaisesOfOneBadRecord(TransactionalRelay):
    """Raises from a claim when one of its records can't be read."""

    async def claim_jobs(self, claim: r.Claim) -> r.Claimed:
        """Raise, as a converter does in the middle of a list."""
        claimed = await super().claim_jobs(claim)
        if claimed.unreadable:
            raise StorageRefusedError(claimed.unreadable[0].reason)
        return claimed


@on_sqlite("R56", aids=DAMAGEABLE)
class PassesOverBadRecords(TransactionalRelay):
    """Leaves what it can't read out of its answer, so that it is leased again and again."""

    async def claim_jobs(self, claim: r.Claim) -> r.Claimed:
        """Say nothing of it."""
        return evolve(await super().claim_jobs(claim), unreadable=())


@on_sqlite("R56", aids=DAMAGEABLE)
class GivesUpTheBatchOfABadRecord(TransactionalRelay):
    """Returns no other job beside one that can't be read."""

    async def claim_jobs(self, claim: r.Claim) -> r.Claimed:
        """Drop the rest."""
        claimed = await super().claim_jobs(claim)
        return evolve(claimed, jobs=()) if claimed.unreadable else claimed


@on_sqlite("R56", aids=DAMAGEABLE)
class NamesTheFirstQueueForBadRecords(TransactionalRelay):
    """Says of what it can't read that it was in the first queue that it was asked for."""

    async def claim_jobs(self, claim: r.Claim) -> r.Claimed:
        """Guess the queue."""
        claimed = await super().claim_jobs(claim)
        queue_id = claim.demands[0].queue_ids[0]
        return evolve(claimed, unreadable=tuple(evolve(each, queue_id=queue_id) for each in claimed.unreadable))


@on_sqlite("R56", aids=DAMAGEABLE)
class MendsBadRecords(TransactionalRelay):
    """Writes something readable over what it couldn't read, once it is settled, so that nobody can see what it was."""

    async def settle_jobs(self, settlements: Sequence[r.Settlement], *, now: datetime) -> frozenset[r.Lease]:
        """Settle, and mend."""
        refused = await super().settle_jobs(settlements, now=now)
        with written(file_of(self.url.text)) as connection:
            connection.execute("UPDATE pannier_jobs SET command = 'null' WHERE NOT json_valid(command)")
        return refused


@on_sqlite("R56", aids=DAMAGEABLE)
class DeniesBadRecords(TransactionalRelay):
    """Answers that there is no job where there is one that can't be read."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Pass over what is shown as unreadable."""
        job = await super().get_job(tracking_id)
        return None if job is None or job.command.encoding.startswith("unreadable") else job


@on_ledger("R57")
class CountsLapsesInMemory(Ledger):
    """Counts lapses in the process, not in the file."""

    def load(self, text: bytes) -> Model:
        """Add what this process has counted."""
        model = super().load(text)
        for job in list(model.jobs.values()):
            model.put(evolve(job, lapses=self._counted().get(job.tracking_id, 0)))
        return model

    def dump(self, model: Model) -> bytes:
        """Note the counts, and leave them out."""
        self._counted().update({job.tracking_id: job.lapses for job in model.jobs.values()})
        bare = Model()
        for job in model.jobs.values():
            bare.put(evolve(job, lapses=0))
        return super().dump(bare)

    def _counted(self) -> dict[UUID, int]:
        counted: dict[UUID, int] = vars(self).setdefault("counted", {})
        return counted


@on_model("R58")
class RetriesUpToTheExpiry(Model):
    """Takes a retry at the very instant of the expiry for one in time."""

    def leads_to(self, job: JobRecord, outcome: r.Outcome) -> JobStatus:
        """Compare with <, where <= is meant."""
        if isinstance(outcome, r.Retry) and outcome.at == job.expire_on:
            return JobStatus.PENDING
        return super().leads_to(job, outcome)


@on_model("R58")
class RetriesPastTheExpiry(Model):
    """Puts a job back for a retry that can never come."""

    def leads_to(self, job: JobRecord, outcome: r.Outcome) -> JobStatus:
        """Look at no expiry."""
        return JobStatus.PENDING if isinstance(outcome, r.Retry) else super().leads_to(job, outcome)


@on_model("R58")
class LosesTheErrorOfALateRetry(Model):
    """Fails a job whose retry would come too late, without the reason."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Take the status only."""
        after = super().settled(job, outcome, now)
        is_late = isinstance(outcome, r.Retry) and after.status is JobStatus.FAILED
        return evolve(after, errors=job.errors) if is_late else after


@on_model("R58")
class FailsRetriesOnceTheExpiryHasPassed(Model):
    """Compares the expiry with now instead of with the time of the retry."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Fail what has expired by now."""
        if isinstance(outcome, r.Retry) and job.expire_on is not None and job.expire_on <= now:
            return self.failed(job, outcome.error, now)
        return super().settled(job, outcome, now)


@on_model("R58")
class KeepsTheLapsesOfALateRetry(Model):
    """Fails a job whose retry would come too late, and leaves its lapses as they were."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Forget the count, by this path alone."""
        after = super().settled(job, outcome, now)
        is_late = isinstance(outcome, r.Retry) and after.status is JobStatus.FAILED
        return evolve(after, lapses=job.lapses) if is_late else after


@on_model("R59")
class ForgivesLapsesAtARelease(Model):
    """Takes a release for a proof that the job kills nobody, once it has lapsed more than once."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Begin to count anew."""
        after = super().settled(job, outcome, now)
        return evolve(after, lapses=0) if isinstance(outcome, r.Release) and job.lapses > 1 else after


@on_model("R59")
class BurnsAnAttemptPerRelease(Model):
    """Does not give the attempt of a released job back."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Keep the attempt."""
        after = super().settled(job, outcome, now)
        return evolve(after, attempt=job.attempt) if isinstance(outcome, r.Release) else after


@on_model("R59")
class ReleasesBehindTheBacklog(Model):
    """Makes a released job due as of now, so that all that was stored before has its turn first."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Put it at the end of the queue."""
        after = super().settled(job, outcome, now)
        return evolve(after, dequeue_after=now) if isinstance(outcome, r.Release) else after


@on_model("R59")
class ForgetsLapsesOnRelease(Model):
    """Sets the lapses of a released job to 0, so that a killer is never condemned."""

    def settled(self, job: JobRecord, outcome: r.Outcome, now: datetime) -> JobRecord:
        """Start afresh."""
        after = super().settled(job, outcome, now)
        return evolve(after, lapses=0) if isinstance(outcome, r.Release) else after


@on_model("R59")
class ReleasesTwice(Model):
    """Gives the attempt back again when the release is repeated."""

    def settle_one(self, settlement: r.Settlement, now: datetime) -> bool:
        """Apply a repeat as if it were the first."""
        job = self.jobs.get(settlement.lease.tracking_id)
        accepted = super().settle_one(settlement, now)
        if accepted and job is not None and job.status is JobStatus.PENDING and job.attempt > 0:
            self.put(evolve(job, attempt=job.attempt - 1))
        return accepted
