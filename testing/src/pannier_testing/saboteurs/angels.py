"""Storages that are odd, and right: the whole suite must pass on them."""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

from attrs import evolve

from pannier.checks import require
from pannier.claims import Claim, Claimed, Demand
from pannier.errors import NotSupportedError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.instants import round_down, round_up, utc
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Retry, Settlement
from pannier.storage import Capabilities, JobStorageProvider, check_new_jobs
from pannier.urls import StorageUrl
from pannier_testing.saboteurs.making import ANGEL, on_memory, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay
from pannier_testing.saboteurs.sqlite_aids import file_of, written

LATENCY: Final = 0.005
"""Seconds that each call of a storage far away takes."""

MILLISECOND: Final = timedelta(milliseconds=1)


@on_memory(ANGEL)
class AnswersInNoOrder(Relay):
    """Gives the jobs of a claim in the reverse of their order."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim as always, and turn the answer round."""
        claimed = await super().claim_jobs(claim)
        return evolve(claimed, jobs=claimed.jobs[::-1])


@on_memory(ANGEL)
class HasAClockOfItsOwn(Relay):
    """Has a clock that is half a minute off."""

    async def read_clock(self) -> datetime | None:
        """Read it."""
        await super().read_clock()
        return datetime.now(UTC) + timedelta(seconds=30)


@on_memory(ANGEL)
class PushesNothing(Relay):
    """Tells nobody of anything: whoever wants to know must look."""

    @property
    def capabilities(self) -> Capabilities:
        """Leave notices out."""
        return evolve(super().capabilities, withheld=frozenset({"notify"}))

    def listen(self, queue_ids: frozenset[str]) -> NoReturn:
        """Refuse whoever asks all the same."""
        raise NotSupportedError("this server has no notices")


@on_memory(ANGEL)
class KeepsNoResults(Relay):
    """Keeps neither progress nor results."""

    @property
    def capabilities(self) -> Capabilities:
        """Leave results out."""
        return evolve(super().capabilities, withheld=frozenset({"results"}))


@on_memory(ANGEL)
class ListsNothing(Relay):
    """Can't list, count or requeue jobs."""

    @property
    def capabilities(self) -> Capabilities:
        """Leave the inspector out."""
        return evolve(super().capabilities, withheld=frozenset({"inspect"}))


@on_memory(ANGEL)
class IsCautiousInACrowd(Relay):
    """Gives one job for each demand, however many were asked for, while another claim is under way."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._claims = 0

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Look who else claims, and take less."""
        require(claim, Claim, "claim")
        self._claims += 1
        try:
            await asyncio.sleep(0)
            if self._claims > 1:
                fewer = (Demand(demand.queue_ids, min(demand.limit, 1)) for demand in claim.demands)
                claim = evolve(claim, demands=tuple(fewer))
            return await super().claim_jobs(claim)
        finally:
            self._claims -= 1


@on_sqlite(ANGEL)
class KeepsMoreThanItMust(TransactionalRelay):
    """Has a field of its own on each record that it stores."""

    async def open(self) -> None:
        """Open, and add the field, unless somebody has."""
        await super().open()
        with suppress(sqlite3.OperationalError), written(file_of(self.url.text)) as connection:
            connection.execute("ALTER TABLE pannier_jobs ADD COLUMN colour TEXT DEFAULT 'red'")


@on_memory(ANGEL)
class TakesItsTime(Relay):
    """Is five milliseconds away."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Wait, then store."""
        await asyncio.sleep(LATENCY)
        return await super().store_jobs(jobs)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Wait, then claim."""
        await asyncio.sleep(LATENCY)
        return await super().claim_jobs(claim)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Wait, then renew."""
        await asyncio.sleep(LATENCY)
        return await super().renew_leases(leases, now=now, lease_for=lease_for)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Wait, then settle."""
        await asyncio.sleep(LATENCY)
        return await super().settle_jobs(settlements, now=now)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Wait, then cancel."""
        await asyncio.sleep(LATENCY)
        return await super().cancel_job(tracking_id, now=now)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Wait, then look the job up."""
        await asyncio.sleep(LATENCY)
        return await super().get_job(tracking_id)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Wait, then purge."""
        await asyncio.sleep(LATENCY)
        return await super().purge_stale_jobs(stale)

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Wait, then keep progress."""
        await asyncio.sleep(LATENCY)
        return await super().store_progress(lease, progress)

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        """Wait, then look the result up."""
        await asyncio.sleep(LATENCY)
        return await super().get_job_result(tracking_id)

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Wait, then list."""
        await asyncio.sleep(LATENCY)
        return await super().find_jobs(wanted, cursor=cursor, limit=limit)

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Wait, then count."""
        await asyncio.sleep(LATENCY)
        return await super().count_jobs(wanted)

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Wait, then requeue."""
        await asyncio.sleep(LATENCY)
        return await super().requeue_job(tracking_id, now=now, expire_on=expire_on)


@on_memory(ANGEL)
class CountsInMilliseconds(Relay):
    """Keeps times in milliseconds, says so, and rounds none of them towards too early."""

    @property
    def capabilities(self) -> Capabilities:
        """Declare the grid."""
        return evolve(super().capabilities, time_resolution=MILLISECOND)

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Round starts up, and expiries and what is only told down."""
        check_new_jobs(jobs, time_resolution=MILLISECOND)
        return await super().store_jobs([_on_grid(job) for job in jobs])

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Compare with a now that was rounded down, and round the end of the lease up."""
        require(claim, Claim, "claim")
        now, lease_for = _lease_on_grid(claim.now, claim.lease_for)
        look_ahead = claim.look_ahead + (claim.now - now)
        return await super().claim_jobs(evolve(claim, now=now, lease_for=lease_for, look_ahead=look_ahead))

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Round the ends of the leases up."""
        require(lease_for, timedelta, "lease_for")
        began, rounded = _lease_on_grid(utc(now, "now"), lease_for)
        return await super().renew_leases(leases, now=began, lease_for=rounded)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Round the time of a retry up, and what is only told down."""
        listed = [_retried_on_grid(settlement) for settlement in settlements]
        return await super().settle_jobs(listed, now=round_down(utc(now, "now"), MILLISECOND))

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Round what is only told down."""
        return await super().cancel_job(tracking_id, now=round_down(utc(now, "now"), MILLISECOND))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Compare with a now that was rounded down."""
        require(stale, StaleJobs, "stale")
        return await super().purge_stale_jobs(evolve(stale, now=round_down(stale.now, MILLISECOND)))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        """Round the new start up, and the new expiry down."""
        starts = round_up(utc(now, "now"), MILLISECOND)
        ends = None if expire_on is None else round_down(utc(expire_on, "expire_on"), MILLISECOND)
        return await super().requeue_job(tracking_id, now=starts, expire_on=ends)


def _on_grid(job: JobRecord) -> JobRecord:
    starts = round_up(job.execute_after, MILLISECOND)
    ends = None if job.expire_on is None else round_down(job.expire_on, MILLISECOND)
    made = round_down(job.created_at, MILLISECOND)
    return evolve(job, execute_after=starts, dequeue_after=starts, expire_on=ends, created_at=made)


def _lease_on_grid(now: datetime, lease_for: timedelta) -> tuple[datetime, timedelta]:
    """Return where on the grid a lease begins, and how long it lasts from there."""
    began = round_down(now, MILLISECOND)
    try:
        return began, round_up(now + lease_for, MILLISECOND) - began
    except OverflowError:
        return began, lease_for  # the storage refuses it


def _retried_on_grid(settlement: Settlement) -> Settlement:
    require(settlement, Settlement, "settlements")
    if not isinstance(settlement.outcome, Retry):
        return settlement
    return evolve(settlement, outcome=evolve(settlement.outcome, at=round_up(settlement.outcome.at, MILLISECOND)))
