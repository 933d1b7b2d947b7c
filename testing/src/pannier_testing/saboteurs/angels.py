"""Storages that are odd, and right: the whole suite must pass on them."""

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier.records import (
    Cancellation,
    Claim,
    Claimed,
    Demand,
    JobRecord,
    Lease,
    Purged,
    Settlement,
    StaleJobs,
)
from pannier.storage import Capabilities
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import CAPABILITIES, ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import ANGEL, on_memory, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay

MILLISECOND = timedelta(milliseconds=1)


@on_reference(ANGEL)
class AnswersInNoOrder(ReferenceProvider):
    """Gives the jobs of a claim in the reverse of their order."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim as always, and turn the answer round."""
        claimed = await super().claim_jobs(claim)
        return evolve(claimed, jobs=claimed.jobs[::-1])


@on_reference(ANGEL)
class HasAClockThatIsOff(ReferenceProvider):
    """Reports a clock that is half a minute ahead."""

    async def read_clock(self) -> datetime | None:
        """Report, and decide nothing by it."""
        await super().read_clock()
        return datetime.now(UTC) + timedelta(seconds=30)


class MillisecondModel(Model):
    """A model that knows milliseconds."""

    def __init__(self) -> None:
        super().__init__(grid=MILLISECOND)


@on_reference(ANGEL, model=MillisecondModel)
class CountsInMilliseconds(ReferenceProvider):
    """Declares a resolution of a millisecond, and rounds so that nothing happens early."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf, evolve(CAPABILITIES, time_resolution=MILLISECOND))


@on_memory(ANGEL)
class TakesItsTime(Relay):
    """Takes 5 ms for every operation."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Wait, then store."""
        await asyncio.sleep(0.005)
        return await super().store_jobs(jobs)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Wait, then claim."""
        await asyncio.sleep(0.005)
        return await super().claim_jobs(claim)

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Wait, then renew."""
        await asyncio.sleep(0.005)
        return await super().renew_leases(leases, now=now, lease_for=lease_for)

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Wait, then settle."""
        await asyncio.sleep(0.005)
        return await super().settle_jobs(settlements, now=now)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Wait, then cancel."""
        await asyncio.sleep(0.005)
        return await super().cancel_job(tracking_id, now=now)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Wait, then look."""
        await asyncio.sleep(0.005)
        return await super().get_job(tracking_id)

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        """Wait, then purge."""
        await asyncio.sleep(0.005)
        return await super().purge_stale_jobs(stale)


@on_sqlite(ANGEL)
class KeepsFieldsOfTheFuture(TransactionalRelay):
    """Has a field in each stored record that this version does not know."""

    async def open(self) -> None:
        """Add a column, as a newer version would."""
        await super().open()
        with closing(sqlite3.connect(self.url.path)) as connection, suppress(sqlite3.OperationalError):
            connection.execute("ALTER TABLE pannier_jobs ADD COLUMN mood TEXT DEFAULT 'good'")  # or it is there


@on_reference(ANGEL)
class GivesLessUnderContention(ReferenceProvider):
    """Gives one job a claim while others ask, too, and says that more are due."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Look who else is here."""
        asking: list[Claim] = self.shelf.__dict__.setdefault("asking", [])
        asking.append(claim)
        try:
            await asyncio.sleep(0)
            if len(asking) == 1:
                return await super().claim_jobs(claim)
            few = tuple(Demand(demand.queue_ids, min(demand.limit, 1)) for demand in claim.demands)
            return await super().claim_jobs(evolve(claim, demands=few))
        finally:
            asking.remove(claim)


class Withholds(ReferenceProvider):
    """A storage whose server can't give an add-on."""

    withheld: str

    @property
    def capabilities(self) -> Capabilities:
        """What is left."""
        return evolve(super().capabilities, withheld=frozenset([self.withheld]))


@on_reference(ANGEL)
class PushesNothing(Withholds):
    """Offers no push hints: workers poll."""

    withheld = "notify"


@on_reference(ANGEL)
class KeepsNoResults(Withholds):
    """Offers no results."""

    withheld = "results"


@on_reference(ANGEL)
class ListsNothing(Withholds):
    """Offers no inspection."""

    withheld = "inspect"
