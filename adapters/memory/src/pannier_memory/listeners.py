"""Listeners: who is told of changes, each on its own event loop."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pannier.records import JobRecord, Notice, NoticeKind, Settlement

NAMED: Final = 16
"""So many changes at once are told one by one; more are told as one MISSED."""


class Listener:
    """An unending stream of notices about some queues."""

    def __init__(self, queue_ids: frozenset[str]) -> None:
        self.queue_ids = queue_ids
        self._notices: deque[Notice] = deque()
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> Notice:
        while not self._notices:
            await self._arrived.wait()
            self._arrived.clear()
        return self._notices.popleft()

    def tell(self, notices: Sequence[Notice]) -> None:
        """Pass *notices* on, from whichever thread."""
        with suppress(RuntimeError):  # its loop was closed
            self._loop.call_soon_threadsafe(self._receive, notices)

    def _receive(self, notices: Sequence[Notice]) -> None:
        if len(self._notices) < NAMED:
            self._notices.extend(notices)
        elif self._notices[-1].kind is not NoticeKind.MISSED:  # it is slow: tell it to look for itself
            self._notices.append(Notice(NoticeKind.MISSED, notices[0].queue_id))
        self._arrived.set()


class Listeners:
    """Everybody who listens to one store. Changed and told under the store's lock."""

    def __init__(self) -> None:
        self._all: list[Listener] = []

    def add(self, queue_ids: frozenset[str]) -> Listener:
        """Return a new listener to *queue_ids*."""
        listener = Listener(queue_ids)
        self._all = [*self._all, listener]
        return listener

    def remove(self, listener: Listener) -> None:
        """Tell *listener* no more."""
        self._all = [other for other in self._all if other is not listener]

    def queued(self, jobs: Sequence[JobRecord]) -> None:
        """Tell that *jobs* may be waiting now: once for each queue."""
        if self._all:
            self._tell([Notice(NoticeKind.QUEUED, queue_id) for queue_id in {job.queue_id for job in jobs}])

    def cancelled(self, job: JobRecord) -> None:
        """Tell that *job* was cancelled."""
        if self._all:
            self._tell([Notice(NoticeKind.CANCELLED, job.queue_id, job.tracking_id)])

    def finished(self, job: JobRecord) -> None:
        """Tell that *job* has ended."""
        if self._all:
            self._tell([Notice(NoticeKind.FINISHED, job.queue_id, job.tracking_id)])

    def settled(self, settlements: Sequence[Settlement], jobs: Mapping[int, JobRecord]) -> None:
        """Tell what became of settled jobs: they have ended, or wait again."""
        if self._all:
            settled = [jobs[s.lease.tracking_id.int] for s in settlements if s.lease.tracking_id.int in jobs]
            if len(settled) > NAMED:
                self._tell([Notice(NoticeKind.MISSED, queue_id) for queue_id in {job.queue_id for job in settled}])
            else:
                self._tell([_settled(job) for job in settled])

    def _tell(self, notices: Iterable[Notice]) -> None:
        told = list(notices)
        for listener in self._all:
            wanted = [notice for notice in told if notice.queue_id in listener.queue_ids]
            if wanted:
                listener.tell(wanted)


def _settled(job: JobRecord) -> Notice:
    kind = NoticeKind.QUEUED if job.finished_at is None else NoticeKind.FINISHED
    return Notice(kind, job.queue_id, job.tracking_id)
