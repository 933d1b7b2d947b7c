"""Storages that break a rule of section V: of sharing a transaction."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim, Claimed
from pannier.errors import UnstorableError
from pannier.records import JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference


class StoresTogether(ReferenceProvider):
    """Stores what waits in one go."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._waiting: list[tuple[Sequence[JobRecord], asyncio.Future[list[UUID]]]] = []

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Join those who wait; the first of them stores for all."""
        answer: asyncio.Future[list[UUID]] = asyncio.get_running_loop().create_future()
        self._waiting.append((jobs, answer))
        if len(self._waiting) == 1:
            await self.lead()
        return await answer

    async def lead(self) -> None:
        """Wait a moment for company, then store for all."""
        await asyncio.sleep(0)
        waiting, self._waiting = self._waiting, []
        await self.flush(waiting)

    async def flush(self, waiting: Sequence[tuple[Sequence[JobRecord], "asyncio.Future[list[UUID]]"]]) -> None:
        """Store for all of *waiting*."""
        for jobs, answer in waiting:
            try:
                standing = await super().store_jobs(jobs)
            except Exception as error:  # told to its own caller
                answer.set_exception(error)
            else:
                if not answer.cancelled():
                    answer.set_result(standing)


@on_reference("R122")
class SharesItsErrors(StoresTogether):
    """Fails every call that shares a transaction with a bad one."""

    async def flush(self, waiting: Sequence[tuple[Sequence[JobRecord], "asyncio.Future[list[UUID]]"]]) -> None:
        """Store one batch for all."""
        try:
            standing = iter(await ReferenceProvider.store_jobs(self, [job for jobs, _ in waiting for job in jobs]))
        except Exception as error:  # told to everybody
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for jobs, answer in waiting:
            mine = [next(standing) for _ in jobs]
            if not answer.done():
                answer.set_result(mine)


@on_reference("R122")
class DiesWithItsLeader(StoresTogether):
    """Drops those who wait when the call that stores for them is cancelled."""

    async def lead(self) -> None:
        """Take the others along."""
        try:
            await super().lead()
        except asyncio.CancelledError:
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting = []
            raise


@on_reference("R122")
class HandsOutWhatItSettles(ReferenceProvider):
    """Claims from what was there before the settlements that share the claim's transaction."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._settling: dict[UUID, JobRecord] = {}

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Remember what stood before, and commit a moment later."""
        ids = [settlement.lease.tracking_id for settlement in settlements]
        before = self._do(lambda model: [model.get(tracking_id) for tracking_id in ids])
        self._settling = {job.tracking_id: job for job in before if job is not None}
        refused = await super().settle_jobs(settlements, now=now)
        for _ in range(3):
            await asyncio.sleep(0)
        self._settling = {}
        return refused

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """See the snapshot."""
        for job in self._settling.values():
            self._do(lambda model, job=job: model.put(job))  # type: ignore[misc]  # an early binding
        return await super().claim_jobs(claim)


@on_reference("R122")
class ClaimsForTheFirst(ReferenceProvider):
    """Leases what claims that come together take to the worker of the first of them."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._workers: list[str] = []

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Wait a moment for company."""
        self._workers.append(claim.worker_id)
        first = self._workers[0]
        try:
            await asyncio.sleep(0)
            return await super().claim_jobs(evolve(claim, worker_id=first))
        finally:
            self._workers.remove(claim.worker_id)


@on_reference("R122")
class RenewsFromTheFirstsNow(ReferenceProvider):
    """Renews leases that come together by the now of the first call."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._nows: list[datetime] = []

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Wait a moment for company."""
        self._nows.append(now)
        first = self._nows[0]
        try:
            await asyncio.sleep(0)
            return await super().renew_leases(leases, now=first, lease_for=lease_for)
        finally:
            self._nows.remove(now)


@on_reference("R123")
class DropsWhatItCantStore(ReferenceProvider):
    """Leaves an unstorable settlement out, silently."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle one by one, and log nothing."""
        refused = frozenset[Lease]()
        for settlement in settlements:
            try:
                refused |= await super().settle_jobs([settlement], now=now)
            except UnstorableError:
                continue
        return refused


@on_reference("R123")
class DropsTheBatch(ReferenceProvider):
    """Drops the whole batch, silently, for one that can't be stored."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Swallow the error."""
        try:
            return await super().settle_jobs(settlements, now=now)
        except UnstorableError:
            return frozenset()


@on_reference("R123")
class SettlesUpToTheUnstorable(ReferenceProvider):
    """Writes what comes before the settlement that it refuses."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle one by one."""
        refused = frozenset[Lease]()
        for settlement in settlements:
            refused |= await super().settle_jobs([settlement], now=now)
        return refused


@on_reference("R123")
class NamesNoLease(ReferenceProvider):
    """Says that something can't be stored, not what."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Forget the id."""
        try:
            return await super().settle_jobs(settlements, now=now)
        except UnstorableError as error:
            raise UnstorableError(None, error.reason) from error
