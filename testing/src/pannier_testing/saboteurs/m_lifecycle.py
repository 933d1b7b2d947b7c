"""Storages that break a rule of section M."""

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pannier.claims import Claim, Claimed
from pannier.records import Cancellation, JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_memory, on_reference, on_sqlite
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay


@on_reference("R92")
class WaitsOnTheLoop(ReferenceProvider):
    """Waits with time.sleep, as a synchronous driver does, before it cancels a job."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Hold the loop, then cancel."""
        time.sleep(0.3)  # noqa: ASYNC251  # that is what it does wrong
        return await super().cancel_job(tracking_id, now=now)


@on_memory("R92")
class ComputesOnTheLoop(Relay):
    """Computes for a third of a second before it settles."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Hold the loop, then settle."""
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            sum(range(1000))
        return await super().settle_jobs(settlements, now=now)


@on_sqlite("R92")
class StoresOnTheLoopOfTheCaller(TransactionalRelay):
    """Waits for the database on the loop when it stores in a transaction of the caller's."""

    async def store_jobs_in(self, transaction: object, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Hold the loop, then store."""
        time.sleep(0.2)  # noqa: ASYNC251  # that is what it does wrong
        return await super().store_jobs_in(transaction, jobs)


@on_reference("R93")
class ClosesOnlyOnce(ReferenceProvider):
    """Raises when it is closed a second time."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._was_closed = False

    async def close(self) -> None:
        """Close, once."""
        is_second = self._was_closed and self._opened_by is None
        self._was_closed = True
        await super().close()
        if is_second:
            raise RuntimeError("close() was called twice")


@on_reference("R93")
class OpensItselfAgain(ReferenceProvider):
    """Works on after close(), silently."""

    def _check_open(self) -> None:
        self._opened_by = os.getpid()


@on_reference("R93")
class HangsInAFork(ReferenceProvider):
    """Waits for ever for the thread that its parent had."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Wait for an answer that nobody gives in a fork."""
        while self._opened_by not in (None, os.getpid()):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.1)
        return await super().get_job(tracking_id)


@on_reference("R93")
class HangsWhenAForkCloses(ReferenceProvider):
    """Refuses to work in a fork, and waits there for ever, when it is closed, for the end of its parent's thread."""

    async def close(self) -> None:
        """Join what is not there."""
        while self._opened_by not in (None, os.getpid()):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.1)
        await super().close()


@on_reference("R94")
class KeepsItsLockWhenCancelled(ReferenceProvider):
    """Releases the lock of its settlements only if it is not cancelled."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._lock = asyncio.Lock()

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Take the lock, wait a moment, settle, release."""
        await self._lock.acquire()
        await asyncio.sleep(0)
        refused = await super().settle_jobs(settlements, now=now)
        self._lock.release()
        return refused


@on_reference("R94")
class LosesWhatItHoldsWhenCancelled(ReferenceProvider):
    """Takes a claimed job out of the store while it waits, and loses it when it is cancelled then."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Pop, wait, put back."""
        claimed = await super().claim_jobs(claim)
        for job in claimed.jobs:
            self._do(lambda model, job=job: model.jobs.pop(job.tracking_id))  # type: ignore[misc]  # an early binding
        await asyncio.sleep(0)
        for job in claimed.jobs:
            self._do(lambda model, job=job: model.put(job))  # type: ignore[misc]  # an early binding
        return claimed
