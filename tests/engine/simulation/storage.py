"""The simulated storage: a real one that everybody shares, behind everything that can go wrong on the way to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from pannier.claims import Claim, Claimed, Unreadable
from pannier.errors import StorageBusyError, StorageUnavailableError, UnstorableError
from pannier.inspection import JobFilter, JobPage, Requeue
from pannier.notices import Notice, NoticeKind
from pannier.purging import Purged, StaleJobs
from pannier.records import Cancellation, JobRecord, JobStatus, Lease, Payload, StoredResult
from pannier.settlements import Failed, Settlement, Succeeded
from pannier.storage import Capabilities
from pannier_memory.provider import MemoryStorage
from tests.engine.simulation.ledger import Ledger
from tests.engine.simulation.universe import Universe
from tests.engine.simulation.weather import CLOCK_SECONDS, TIMEOUT_SECONDS, Fate, Weather

T = TypeVar("T")

UNSTORABLE: Final = "unstorable"
"""A result that holds this text is refused."""

UNREADABLE: Final = "unreadable"
"""A job with this key in its metadata can't be read when it is claimed."""

OUTCOME_REFUSED: Final = "pannier.errors.UnstorableError"
"""What a job fails of whose outcome the storage can't hold (E16)."""

CONTENDED: Final = 0.05
"""How often in bad weather a claim passes over all that is due: others are taking it (R27)."""

QUICK_SECONDS: Final = 0.002
SLOW_SECONDS: Final = 4.0
SLOW_CLAIM_SECONDS: Final = 8.0
"""Longer than a lease: as if the process had been frozen meanwhile."""


class SimulatedStorage:
    """One instance, of one process. Everything that is done is written into the ledger at the moment it is done."""

    def __init__(
        self,
        *,
        inner: MemoryStorage,
        universe: Universe,
        weather: Weather,
        ledger: Ledger,
        name: str,
        capabilities: Capabilities,
    ) -> None:
        self._inner = inner
        self._universe = universe
        self._weather = weather
        self._ledger = ledger
        self._name = name
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def read_clock(self) -> datetime | None:
        """Tell the universe's time; a slow answer is half as old as it took."""
        spread = 0.004 if self._weather.is_calm else CLOCK_SECONDS
        await self._wait(spread)
        return self._universe.instant

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        async def act() -> list[UUID]:
            standing = await self._inner.store_jobs(jobs)
            self._ledger.stored(jobs, standing)
            return standing

        return await self._call("store_jobs", act)

    async def claim_jobs(self, claim: Claim) -> Claimed:
        self._ledger.asked(claim)

        if self._weather.odds and self._universe.random.random() < CONTENDED:
            await self._wait(QUICK_SECONDS)
            return Claimed(jobs=(), next_due=claim.now)

        async def act() -> Claimed:
            claimed = await self._inner.claim_jobs(claim)
            self._ledger.claimed(claim, claimed.jobs)
            return claimed

        claimed = _with_unreadable(await self._call("claim_jobs", act))
        # Nothing runs under the lease of what can't be read: it may lapse, and whoever claims next fails the job.
        self._ledger.delivered([job.lease for job in claimed.jobs])
        return claimed

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        async def act() -> frozenset[Lease]:
            lost = await self._inner.renew_leases(leases, now=now, lease_for=lease_for)
            self._ledger.renewed(leases, lost, now=now, lease_for=lease_for)
            return lost

        try:
            return await self._call("renew_leases", act)
        except BaseException:
            self._ledger.troubled_at[self._name] = self._universe.now
            raise

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        for settlement in settlements:
            self._refuse_unstorable(settlement)

        async def act() -> frozenset[Lease]:
            refused = await self._inner.settle_jobs(settlements, now=now)
            self._ledger.settled(settlements, refused)
            return refused

        return await self._call("settle_jobs", act)

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        async def act() -> Cancellation:
            answer = await self._inner.cancel_job(tracking_id, now=now)
            self._ledger.cancelled(tracking_id, answer)
            return answer

        return await self._call("cancel_job", act)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        return await self._call("get_job", lambda: self._inner.get_job(tracking_id))

    async def purge_stale_jobs(self, stale: StaleJobs) -> Purged:
        return await self._call("purge_stale_jobs", lambda: self._inner.purge_stale_jobs(stale))

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        return await self._call("store_progress", lambda: self._inner.store_progress(lease, progress))

    async def get_job_result(self, tracking_id: UUID) -> StoredResult | None:
        return await self._call("get_job_result", lambda: self._inner.get_job_result(tracking_id))

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        return await self._call("find_jobs", lambda: self._inner.find_jobs(wanted, cursor=cursor, limit=limit))

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        return await self._call("count_jobs", lambda: self._inner.count_jobs(wanted))

    async def requeue_job(self, tracking_id: UUID, *, now: datetime, expire_on: datetime | None) -> Requeue:
        async def act() -> Requeue:
            answer = await self._inner.requeue_job(tracking_id, now=now, expire_on=expire_on)
            self._ledger.requeued(tracking_id, answer, now=now, expire_on=expire_on)
            return answer

        return await self._call("requeue_job", act)

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe; in bad weather notices are late, out of order, twice, or not there at all."""
        await self._wait(QUICK_SECONDS)
        if self._weather.fate("listen", self._name) in (Fate.REFUSED, Fate.UNDONE):
            raise StorageUnavailableError("the storage takes no listener")
        async with self._inner.listen(queue_ids) as notices:
            yield self._told(notices)

    async def _told(self, notices: AsyncIterator[Notice]) -> AsyncIterator[Notice]:
        overtaken: list[Notice] = []
        async for notice in notices:
            match self._weather.fate("listen", self._name):
                case Fate.SLOW:
                    await self._wait(SLOW_SECONDS)
                    yield notice
                case Fate.BUSY:
                    overtaken.append(notice)
                    continue
                case Fate.REFUSED | Fate.BROKEN:
                    raise StorageUnavailableError("the listener's connection broke")
                case Fate.UNDONE:
                    continue
                case Fate.UNSAID:
                    yield Notice(NoticeKind.MISSED, notice.queue_id)
                case Fate.STRANGE:
                    yield notice
                    yield notice
                case _:
                    yield notice
            while overtaken:
                yield overtaken.pop()

    async def _call(self, verb: str, act: Callable[[], Awaitable[T]]) -> T:
        fate = self._weather.fate(verb, self._name)
        if verb == "renew_leases" and fate is not Fate.FINE:
            self._ledger.troubled_at[self._name] = self._universe.now
        if fate is Fate.REFUSED:
            await self._wait(QUICK_SECONDS)
            raise StorageUnavailableError(f"{verb}: the storage refuses")
        if fate is Fate.BUSY:
            await self._wait(1.0)
            raise StorageBusyError(f"{verb}: the storage is busy")
        if fate is Fate.STRANGE:
            raise RuntimeError(f"{verb}: a fault in the driver")
        if fate is Fate.UNDONE:
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise StorageUnavailableError(f"{verb}: nothing was said, nothing done")
        slow = SLOW_CLAIM_SECONDS if verb == "claim_jobs" else SLOW_SECONDS
        await self._wait(slow if fate is Fate.SLOW else QUICK_SECONDS)
        answer = await act()
        if fate is Fate.UNSAID:
            await asyncio.sleep(TIMEOUT_SECONDS)
        if fate in (Fate.UNSAID, Fate.BROKEN):
            raise StorageUnavailableError(f"{verb}: done, and the reply was lost")
        await self._wait(QUICK_SECONDS)
        return answer

    def _refuse_unstorable(self, settlement: Settlement) -> None:
        """Refuse what can't be held: such a result, and in bad weather even that it can't, or that of a damaged job."""
        match settlement.outcome:
            case Succeeded(result=Payload(data=data)):
                is_refused = UNSTORABLE in str(data)
            case Failed(error=error):
                is_damaged = UNREADABLE in self._ledger.jobs[settlement.lease.tracking_id].job.metadata
                is_refused = bool(self._weather.odds) and (is_damaged or error.kind == OUTCOME_REFUSED)
            case _:
                is_refused = False
        if is_refused:
            raise UnstorableError(settlement.lease.tracking_id, "the storage can't hold it")

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(self._universe.random.random() * seconds)


def _with_unreadable(claimed: Claimed) -> Claimed:
    unreadable = [job for job in claimed.jobs if UNREADABLE in job.metadata]
    if not unreadable:
        return claimed
    return Claimed(
        jobs=tuple(job for job in claimed.jobs if UNREADABLE not in job.metadata),
        unreadable=tuple(Unreadable(job.lease, job.queue_id, "its stored form is damaged") for job in unreadable),
        next_due=claimed.next_due,
    )
