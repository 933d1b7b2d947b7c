"""Storages that break a rule of section V: of telling listeners."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from pannier.notices import Notice
from pannier.records import Cancellation, JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.loopback import LoopbackProvider
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_loopback, on_reference


@on_reference("R124")
class TellsNoCancellation(ReferenceProvider):
    """Lets listeners find out about cancellations at their next probe."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Cancel without a word."""
        listeners, self.shelf.listeners = self.shelf.listeners, {}
        try:
            return await super().cancel_job(tracking_id, now=now)
        finally:
            self.shelf.listeners = listeners


@on_reference("R124")
class HearsOfOneQueue(ReferenceProvider):
    """Subscribes a listener to the first of its queues."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Take one channel a connection."""
        async with super().listen(frozenset(sorted(queue_ids)[:1])) as notices:
            yield notices


@on_reference("R124")
class TellsNoEnd(ReferenceProvider):
    """Tells listeners of new jobs only, not of what has ended."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle without a word."""
        listeners, self.shelf.listeners = self.shelf.listeners, {}
        try:
            return await super().settle_jobs(settlements, now=now)
        finally:
            self.shelf.listeners = listeners


@on_reference("R124")
class TellsItselfOnly(ReferenceProvider):
    """Keeps its listeners to itself, so that another instance's are told nothing."""

    def __init__(self, shelf: Shelf) -> None:
        own = Shelf(shelf.model)
        own.lock = shelf.lock
        super().__init__(own)


@on_reference("R124")
class TellsLate(ReferenceProvider):
    """Looks every three seconds for what it could tell."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Hand notices on late."""
        async with super().listen(queue_ids) as notices:
            yield _later(notices)


async def _later(notices: AsyncIterator[Notice]) -> AsyncIterator[Notice]:
    async for notice in notices:
        await asyncio.sleep(3)
        yield notice


@on_reference("R124")
class WaitsForItsListeners(ReferenceProvider):
    """Stores no more than 100 notices for a listener, and lets the caller wait until he has read some."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._unread = 0

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Wait for a place in the line."""
        self._unread += len(jobs) if self.shelf.listeners else 0
        while self._unread > 100:  # noqa: ASYNC110  # as a full line makes one wait
            await asyncio.sleep(0.05)
        return await super().store_jobs(jobs)


@on_loopback("R124")
class SaysNothingOfAReconnect(LoopbackProvider):
    """Lets a listener go on after a reconnect as if nothing had happened."""

    def missed(self, queue_ids: frozenset[str]) -> list[Notice]:
        """Tell nothing."""
        return []
