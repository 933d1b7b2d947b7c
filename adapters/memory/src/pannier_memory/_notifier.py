"""The notifier: who listens to the store, each on an event loop of his own."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, final

from pannier.notices import Notice, NoticeKind
from pannier.records import JobRecord

NAMED: Final = 16
"""So many changes of one step are named one by one; of more a listener is told that he has MISSED some."""

WAITING: Final = 1_000
"""So many notices wait for a listener; one who is slower is told that he has MISSED some."""


@final
class Listener:
    """
    What one listener hears: an async iterator of notices, which ends when its storage is closed.

    Attributes:
        queue_ids: The queues that it hears of.
        owner: The storage instance that it belongs to.
    """

    def __init__(self, queue_ids: frozenset[str], owner: object) -> None:
        self.queue_ids = queue_ids
        self.owner = owner
        self._loop = asyncio.get_running_loop()
        self._notices: deque[Notice] = deque()
        self._stirred = asyncio.Event()
        self._has_ended = False

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> Notice:
        while not self._notices:
            if self._has_ended:
                raise StopAsyncIteration
            await self._stirred.wait()
            self._stirred.clear()
        return self._notices.popleft()

    def tell(self, notices: Sequence[Notice]) -> None:
        """Pass *notices* on, from whichever thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._receive, notices)

    def end(self) -> None:
        """Let the iterator end once everything was heard. Call on its loop."""
        self._has_ended = True
        self._stirred.set()

    def _receive(self, notices: Sequence[Notice]) -> None:
        if len(self._notices) < WAITING:
            self._notices.extend(notices)
        elif self._notices[-1].kind is not NoticeKind.MISSED:
            self._notices.append(Notice(NoticeKind.MISSED, notices[0].queue_id))
        self._stirred.set()


@final
class Notifier:
    """
    Everybody who listens to one store. Used under the store's lock.

    An instance is told of what other instances do; what it does itself it knows.
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Tell *listener* from now on."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Tell *listener* no more."""
        with suppress(ValueError):
            self._listeners.remove(listener)

    def remove_all_of(self, owner: object) -> None:
        """Tell the listeners of *owner* no more, and let them end."""
        for listener in [listener for listener in self._listeners if listener.owner is owner]:
            self._listeners.remove(listener)
            listener.end()

    def queued(self, jobs: Sequence[JobRecord], *, by: object) -> None:
        """Tell that *jobs* may be waiting now, once for each queue."""
        if self._hears_others(by):
            self._tell([Notice(NoticeKind.QUEUED, queue_id) for queue_id in _queue_ids(jobs)], by)

    def cancelled(self, job: JobRecord, *, by: object) -> None:
        """Tell that *job* was cancelled."""
        if self._hears_others(by):
            self._tell([Notice(NoticeKind.CANCELLED, job.queue_id, job.tracking_id)], by)

    def changed(self, jobs: Sequence[JobRecord], *, by: object) -> None:
        """Tell that *jobs* have ended, or are waiting again."""
        if not jobs or not self._hears_others(by):
            return
        if len(jobs) > NAMED:
            self._tell([Notice(NoticeKind.MISSED, queue_id) for queue_id in _queue_ids(jobs)], by)
        else:
            self._tell([_notice_of(job) for job in jobs], by)

    def _hears_others(self, by: object) -> bool:
        return any(listener.owner is not by for listener in self._listeners)

    def _tell(self, notices: Iterable[Notice], by: object) -> None:
        told = tuple(notices)
        for listener in self._listeners:
            heard = [notice for notice in told if notice.queue_id in listener.queue_ids]
            if heard and listener.owner is not by:
                listener.tell(heard)


def _queue_ids(jobs: Iterable[JobRecord]) -> Iterable[str]:
    """Return each queue of *jobs* once, in their order, so that a run can be repeated exactly."""
    return dict.fromkeys(job.queue_id for job in jobs)


def _notice_of(job: JobRecord) -> Notice:
    kind = NoticeKind.QUEUED if job.finished_at is None else NoticeKind.FINISHED
    return Notice(kind, job.queue_id, job.tracking_id)
