"""Storages that break a rule of section M by what only looks, opens or closes."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from pannier.checks import require
from pannier.inspection import JobFilter
from pannier.notices import Notice
from pannier.records import JobRecord, JobStatus
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference


@on_reference("R92")
class OpensOnTheLoop(ReferenceProvider):
    """Connects with a synchronous driver when it is opened."""

    async def open(self) -> None:
        """Hold the loop, then open."""
        time.sleep(0.3)  # noqa: ASYNC251  # that is what it does wrong
        await super().open()


@on_reference("R92")
class CountsOnTheLoop(ReferenceProvider):
    """Counts with a synchronous driver."""

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Hold the loop, then count."""
        time.sleep(0.3)  # noqa: ASYNC251  # that is what it does wrong
        return await super().count_jobs(wanted)


@on_reference("R92")
class ListensOnTheLoop(ReferenceProvider):
    """Subscribes with a synchronous driver."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Hold the loop, then listen."""
        time.sleep(0.3)  # noqa: ASYNC251  # that is what it does wrong
        async with super().listen(queue_ids) as notices:
            yield notices


@on_reference("R93")
class CountsItsOpenings(ReferenceProvider):
    """Stays open until it was closed as often as it was opened."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._openings = 0

    async def open(self) -> None:
        """Count one more."""
        self._openings += 1
        await super().open()

    async def close(self) -> None:
        """Count one less."""
        self._openings = max(self._openings - 1, 0)
        if not self._openings:
            await super().close()


@on_reference("R93")
class CountsWhenItIsClosed(ReferenceProvider):
    """Looks into its store after close(), where it is only asked for counts."""

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        """Take whatever is there."""
        require(wanted, JobFilter, "wanted")
        with self.shelf.use() as model:
            return model.count(wanted)


class LocksWhatItLooksAt(ReferenceProvider):
    """Has a lock for looks, which is released where nothing goes wrong."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.lock = asyncio.Lock()

    async def locked(self) -> None:
        """Take the lock, and wait a moment."""
        await self.lock.acquire()
        await asyncio.sleep(0)


@on_reference("R94")
class KeepsItsLockWhenAGetIsCancelled(LocksWhatItLooksAt):
    """Releases the lock of get_job only if that is not cancelled."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Lock, look, release."""
        await self.locked()
        job = await super().get_job(tracking_id)
        self.lock.release()
        return job


@on_reference("R94")
class KeepsItsLockWhenASubscriptionIsCancelled(LocksWhatItLooksAt):
    """Releases the lock of its subscriptions only if they are not cancelled."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Lock, subscribe, release."""
        await self.locked()
        self.lock.release()
        async with super().listen(queue_ids) as notices:
            yield notices
