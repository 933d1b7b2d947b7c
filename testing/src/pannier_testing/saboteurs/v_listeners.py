"""Storages that break a rule of section V: of telling every listener, wherever it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from attrs import frozen

from pannier.notices import Notice, NoticeKind
from pannier.records import Cancellation, JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay


@contextmanager
def silence(shelf: Shelf) -> Iterator[None]:
    """Tell nobody anything meanwhile."""
    listeners, shelf.listeners = shelf.listeners, {}
    try:
        yield
    finally:
        shelf.listeners = listeners


@on_reference("R124")
class TellsOfTheFirstQueue(ReferenceProvider):
    """Tells listeners of the queue of a batch's first job."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Tell once a batch."""
        with silence(self.shelf):
            standing = await super().store_jobs(jobs)
        for job in jobs[:1]:
            self.shelf.tell(Notice(NoticeKind.QUEUED, job.queue_id))
        return standing


@on_reference("R124")
class TellsOfTheFirstEnd(ReferenceProvider):
    """Tells listeners of the first job of a batch that has ended."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Tell once a batch."""
        with silence(self.shelf):
            refused = await super().settle_jobs(settlements, now=now)
        self._tell(NoticeKind.FINISHED, [settlement.lease.tracking_id for settlement in settlements[:1]])
        return refused


@on_reference("R124")
class TellsBeforeItStores(ReferenceProvider):
    """Tells listeners of jobs, and commits them a moment later."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Publish first."""
        for queue_id in {job.queue_id for job in jobs}:
            self.shelf.tell(Notice(NoticeKind.QUEUED, queue_id))
        await asyncio.sleep(0.05)
        with silence(self.shelf):
            return await super().store_jobs(jobs)


@on_reference("R124")
class TellsBeforeItSettles(ReferenceProvider):
    """Tells listeners that jobs have ended, and commits that a moment later."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Publish first."""
        self._tell(NoticeKind.FINISHED, [settlement.lease.tracking_id for settlement in settlements])
        await asyncio.sleep(0.05)
        with silence(self.shelf):
            return await super().settle_jobs(settlements, now=now)


@on_reference("R124")
class HasRoomForOneListener(ReferenceProvider):
    """Keeps one listener an instance: the next one takes the place of the one before."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Turn out whoever was there."""
        others = dict(self.shelf.listeners)
        for number in self._mine():
            self.shelf.listeners[number] = (frozenset(), self.shelf.listeners[number][1])
        async with super().listen(queue_ids) as notices:
            self._mine().extend(self.shelf.listeners.keys() - others.keys())
            try:
                yield notices
            finally:
                self._mine().clear()

    def _mine(self) -> list[int]:
        mine: list[int] = self.__dict__.setdefault("_listening", [])
        return mine


@on_reference("R124")
class LeavesForAll(ReferenceProvider):
    """Unsubscribes a listener's queues for the whole instance, as one connection for all listeners does."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Take the channels away from those who stay, too."""
        async with super().listen(queue_ids) as notices:
            yield notices
        for number, (others, tell) in self.shelf.listeners.items():
            self.shelf.listeners[number] = (others - queue_ids, tell)


class Listens(ReferenceProvider):
    """Has listeners of its own making."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe."""
        self._check_open()
        loop, line = asyncio.get_running_loop(), self.line()
        self.shelf.listeners[id(line)] = (queue_ids, lambda notice: self.put(loop, line, notice))
        try:
            yield read(line)
        finally:
            del self.shelf.listeners[id(line)]

    def line(self) -> asyncio.Queue[Notice]:
        """Return where notices wait to be read."""
        return asyncio.Queue()

    def put(self, loop: asyncio.AbstractEventLoop, line: asyncio.Queue[Notice], notice: Notice) -> None:
        """Hand *notice* to a listener."""
        loop.call_soon_threadsafe(line.put_nowait, notice)


async def read(line: asyncio.Queue[Notice]) -> AsyncIterator[Notice]:
    """Give what comes."""
    while True:
        yield await line.get()


@on_reference("R124")
class DropsWhatIsTooMuch(Listens):
    """Keeps 100 notices that a listener has not read, and drops those that follow, silently."""

    def line(self) -> asyncio.Queue[Notice]:
        """Have an end."""
        return asyncio.Queue(100)

    def put(self, loop: asyncio.AbstractEventLoop, line: asyncio.Queue[Notice], notice: Notice) -> None:
        """Drop what does not fit."""
        loop.call_soon_threadsafe(_put_if_there_is_room, line, notice)


def _put_if_there_is_room(line: asyncio.Queue[Notice], notice: Notice) -> None:
    if not line.full():
        line.put_nowait(notice)


@on_reference("R124")
class WakesNoOtherThread(Listens):
    """Puts notices into the line of a listener of another thread, whose event loop sleeps on."""

    def put(self, loop: asyncio.AbstractEventLoop, line: asyncio.Queue[Notice], notice: Notice) -> None:
        """Take every line for one of this loop."""
        line.put_nowait(notice)


@on_reference("R124")
class SubscribesWhenRead(ReferenceProvider):
    """Subscribes a listener when it first reads, not when it begins to listen."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Wait for the first read."""
        yield _lazily(super().listen(queue_ids))


async def _lazily(listening: AbstractAsyncContextManager[AsyncIterator[Notice]]) -> AsyncIterator[Notice]:
    async with listening as notices:
        async for notice in notices:
            yield notice


@on_reference("R124")
class CutsTheNamesOfChannels(ReferenceProvider):
    """Listens on channels whose names have 63 bytes, and tells by the whole names of queues."""

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe to what is left of the names."""
        cut = frozenset(queue_id.encode("utf-8", "replace")[:63].decode("utf-8", "replace") for queue_id in queue_ids)
        async with super().listen(cut) as notices:
            yield notices


@on_reference("R124")
class NamesAnotherJob(ReferenceProvider):
    """Names the first job of all where it tells of an end."""

    def _tell(self, kind: NoticeKind, tracking_ids: Sequence[UUID]) -> None:
        first = self._do(lambda model: next(iter(model.jobs), UUID(int=0)))
        for job in self._do(lambda model: [model.get(tracking_id) for tracking_id in tracking_ids]):
            if job is not None:
                self.shelf.tell(Notice(kind, job.queue_id, first))


@frozen
class _Place:
    """A listener of `TellsItsProcess`."""

    file: str
    queue_ids: frozenset[str]
    loop: asyncio.AbstractEventLoop
    line: asyncio.Queue[Notice]


@on_sqlite("R124")
class TellsItsProcess(TransactionalRelay):
    """Tells the listeners of its own process, of every instance there, and of no other process."""

    places: ClassVar[dict[int, _Place]] = {}

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store, and tell."""
        standing = await super().store_jobs(jobs)
        for job in jobs:
            self._tell(NoticeKind.QUEUED, job)
        return standing

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle, and tell."""
        refused = await super().settle_jobs(settlements, now=now)
        for settlement in settlements:
            self._tell(NoticeKind.FINISHED, await self.inner.get_job(settlement.lease.tracking_id))
        return refused

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Cancel, and tell."""
        answer = await super().cancel_job(tracking_id, now=now)
        self._tell(NoticeKind.CANCELLED, await self.inner.get_job(tracking_id))
        return answer

    @asynccontextmanager
    async def listen(self, queue_ids: frozenset[str]) -> AsyncIterator[AsyncIterator[Notice]]:
        """Subscribe in a list of this process."""
        line: asyncio.Queue[Notice] = asyncio.Queue()
        self.places[id(line)] = _Place(self.url.text, queue_ids, asyncio.get_running_loop(), line)
        try:
            yield read(line)
        finally:
            del self.places[id(line)]

    def _tell(self, kind: NoticeKind, job: JobRecord | None) -> None:
        for place in list(self.places.values()):
            if job is not None and place.file == self.url.text and job.queue_id in place.queue_ids:
                place.loop.call_soon_threadsafe(place.line.put_nowait, Notice(kind, job.queue_id, job.tracking_id))
