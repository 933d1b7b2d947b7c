"""Storages and values that break a rule of section K."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from uuid import UUID

from attrs import evolve, frozen

from pannier import storage as r
from pannier.claims import Claim, Claimed
from pannier.inspection import Requeue
from pannier.purging import StaleJobs
from pannier.records import Cancellation, JobError, JobRecord, Lease
from pannier.settlements import Retry
from pannier_testing.builders import T0
from pannier_testing.reference.model import EPOCH, Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference, on_values

ELSEWHERE: Final = timezone(timedelta(hours=5, minutes=45))


def forced(job: JobRecord, name: str, at: datetime) -> JobRecord:
    """Return a copy of *job* with *at* as it is, unchecked, in the field *name*."""
    copied = evolve(job)
    object.__setattr__(copied, name, at)
    return copied


@on_reference("R79")
class ReturnsNaiveTimes(ReferenceProvider):
    """Returns created_at without a zone, as some drivers give it."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Drop the zone."""
        job = await super().get_job(tracking_id)
        return None if job is None else forced(job, "created_at", job.created_at.replace(tzinfo=None))


@on_reference("R79")
class ReturnsTimesOfItsOwnZone(ReferenceProvider):
    """Returns dequeue_after in the zone of its server."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Leave it as the server spells it."""
        claimed = await super().claim_jobs(claim)
        jobs = [forced(job, "dequeue_after", job.dequeue_after.astimezone(ELSEWHERE)) for job in claimed.jobs]
        return evolve(claimed, jobs=tuple(jobs))


@on_reference("R79")
class TakesTheWallClockForTheInstant(ReferenceProvider):
    """Keeps the numbers of a clock in another zone, and calls them UTC."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Replace the zone instead of converting."""
        return await super().cancel_job(tracking_id, now=now.replace(tzinfo=UTC))


@on_reference("R79")
class KeepsTheZoneOfNow(ReferenceProvider):
    """Gives the zone that a claim's caller has back with next_due."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Spell it elsewhere."""
        claimed = await super().claim_jobs(claim)
        due = claimed.next_due
        return evolve(claimed, next_due=None if due is None else due.astimezone(ELSEWHERE))


def as_local(at: datetime) -> datetime:
    """Take a naive datetime as local time."""
    return at.astimezone(UTC)


@on_values("R80", "job_record")
@frozen(kw_only=True, slots=False)
class TakesNaiveTimesAsLocal(JobRecord):
    """Takes a job's naive execute_after as local time."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "execute_after", as_local(self.execute_after))
        super().__attrs_post_init__()


@on_values("R80", "claim")
@frozen(kw_only=True)
class TakesANaiveNowAsLocal(Claim):
    """Takes a claim's naive now as local time."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "now", as_local(self.now))
        super().__attrs_post_init__()


@on_values("R80", "retry")
@frozen
class TakesANaiveRetryAsUtc(Retry):
    """Takes the naive time of a retry as UTC."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "at", self.at.replace(tzinfo=UTC))
        super().__attrs_post_init__()


@on_values("R80", "stale_jobs")
@frozen(kw_only=True)
class PurgesByANaiveNow(StaleJobs):
    """Takes a purge's naive now as UTC."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "now", self.now.replace(tzinfo=UTC))
        super().__attrs_post_init__()


@on_values("R80", "job_error")
@frozen(kw_only=True)
class DatesErrorsByLocalTime(JobError):  # noqa: N818  # no exception
    """Takes the naive time of an error as local time."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "at", as_local(self.at))
        super().__attrs_post_init__()


class StoresTimesWrongly(Model):
    """Changes the times of a job when it is stored."""

    def store_one(self, job: JobRecord) -> UUID:
        """Store what `spoil` makes of the times."""
        at = self.spoil(job.execute_after)
        return super().store_one(evolve(job, execute_after=at, dequeue_after=at, expire_on=job.expire_on))

    def spoil(self, at: datetime) -> datetime:
        """Return another instant."""
        return at


@on_model("R81")
class KeepsTimesAsFloats(StoresTimesWrongly):
    """Keeps times as seconds in a float, whose microseconds end in the year 2242."""

    def spoil(self, at: datetime) -> datetime:
        """Go through a float."""
        try:
            return datetime.fromtimestamp(at.timestamp(), UTC)
        except (ValueError, OverflowError):
            return datetime.max.replace(tzinfo=UTC)


@on_model("R81")
class KeepsTimesIn32Bits(StoresTimesWrongly):
    """Keeps times as 32 bits of seconds, which are over in January 2038."""

    def spoil(self, at: datetime) -> datetime:
        """Wrap around."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        seconds, rest = divmod(at - epoch, timedelta(seconds=1))
        return epoch + timedelta(seconds=(seconds + 2**31) % 2**32 - 2**31) + rest


@on_model("R81")
class OverflowsAtTheEnd(Model):
    """Lets the driver's OverflowError out where a lease would end after the year 9999."""

    def lease_end(self, now: datetime, lease_for: timedelta) -> datetime:
        """Add without a look."""
        return self.up(now + lease_for)


@on_model("R81")
class ClampsLeases(Model):
    """Shortens a lease that would end after the year 9999 without a word."""

    def lease_end(self, now: datetime, lease_for: timedelta) -> datetime:
        """Cut it."""
        return super().lease_end(now, min(lease_for, datetime.max.replace(tzinfo=UTC) - now))


@on_model("R82")
class KeepsLocalTimes(StoresTimesWrongly):
    """Keeps times as the local clock shows them, where one hour in autumn comes twice and one in spring never."""

    def spoil(self, at: datetime) -> datetime:
        """Go through a naive local time."""
        return at.astimezone().replace(tzinfo=None, fold=0).astimezone(UTC)


@on_reference("R82")
class ReturnsLocalTimes(ReferenceProvider):
    """Returns finished_at in the zone of the process."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Spell it locally."""
        job = await super().get_job(tracking_id)
        if job is None or job.finished_at is None:
            return job
        return forced(job, "finished_at", job.finished_at.astimezone())


@on_model("R83")
class ClaimsByItsOwnClock(Model):
    """Decides what is due by the clock of its machine."""

    def choose(self, claim: Claim) -> list[JobRecord]:
        """Ask the machine."""
        return super().choose(evolve(claim, now=datetime.now(UTC)))


@on_model("R83")
class RenewsByItsOwnClock(Model):
    """Counts a renewed lease from the clock of its machine."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Ask the machine."""
        return super().renew(leases, datetime.now(UTC), lease_for)


@on_model("R83")
class PurgesByItsOwnClock(Model):
    """Decides what has expired, and what was kept long enough, by the clock of its machine."""

    def purge(self, stale: StaleJobs) -> r.Purged:
        """Ask the machine."""
        return super().purge(evolve(stale, now=datetime.now(UTC)))


@on_model("R83")
class EndsByItsOwnClock(Model):
    """Stamps finished_at of a cancelled job with the clock of its machine."""

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Ask the machine."""
        return super().cancel(tracking_id, datetime.now(UTC))


class RemembersTheLatestNow(Model):
    """Lets no clock run back."""

    latest = T0 - timedelta(days=365 * 50)

    def never_back(self, now: datetime) -> datetime:
        """Return the latest instant that anybody has told."""
        self.latest = max(self.latest, now)
        return self.latest


@on_model("R83")
class ClaimsByTheLatestNow(RemembersTheLatestNow):
    """Decides what is due by the latest instant that any claimer has told."""

    def claim(self, claim: Claim) -> Claimed:
        """Forget whose clock it was."""
        return super().claim(evolve(claim, now=self.never_back(claim.now)))


@on_model("R83")
class RenewsByTheLatestNow(RemembersTheLatestNow):
    """Counts a renewed lease from the latest instant that any holder has told."""

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Forget whose clock it was."""
        return super().renew(leases, self.never_back(now), lease_for)


@on_model("R83")
class EndsByTheLatestNow(RemembersTheLatestNow):
    """Stamps finished_at with the latest instant that anybody has told who settled or cancelled."""

    def settle(self, settlements: Iterable[r.Settlement], now: datetime) -> frozenset[Lease]:
        """Forget whose clock it was."""
        return super().settle(settlements, self.never_back(now))

    def cancel(self, tracking_id: UUID, now: datetime) -> Cancellation:
        """Forget whose clock it was."""
        return super().cancel(tracking_id, self.never_back(now))


@on_model("R81")
class KeepsExpiriesAsFloats(Model):
    """Keeps expiries as floats, which can't tell the microseconds of a far year apart."""

    def store_one(self, job: JobRecord) -> UUID:
        """Count the seconds since 1970."""
        if job.expire_on is None:
            return super().store_one(job)
        seconds = (job.expire_on - EPOCH).total_seconds()
        return super().store_one(evolve(job, expire_on=EPOCH + timedelta(seconds=seconds)))


@on_reference("R83")
class RequeuesByItsOwnClock(ReferenceProvider):
    """Makes a requeued job due as of its own clock, where no expiry depends on it."""

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Look at the clock."""
        own = datetime.now(UTC) if expire_on is None else now
        return await super().requeue_job(tracking_id, now=own, expire_on=expire_on)
