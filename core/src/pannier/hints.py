"""Hints: what the storage pushes, and what happens in this process, told to whoever waits for it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Final
from uuid import UUID

from pannier.backoff import Backoff
from pannier.notices import Notice, NoticeKind
from pannier.storage import JobNotifier

logger = logging.getLogger("pannier")

MISSED: Final = Notice(NoticeKind.MISSED, "*")

RETRY_DELAY: Final = timedelta(seconds=5)
"""The longest pause before a listener that was interrupted is set up again."""


class Hints:
    """
    Passes notices on to subscribers. Correctness never needs one: a lost notice costs time, at most a probe.

    Subscribers are called on the event loop and must return at once.
    """

    def __init__(self, *, random: Random) -> None:
        self._subscribers: list[Callable[[Notice], None]] = []
        self._watchers: dict[UUID, list[Callable[[], None]]] = {}
        self._backoff = Backoff(RETRY_DELAY, random)
        self._listened: frozenset[str] = frozenset()
        self._listening: list[asyncio.Task[None]] = []

    def subscribe(self, subscriber: Callable[[Notice], None]) -> None:
        """Call *subscriber* with each notice."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[Notice], None]) -> None:
        """Call *subscriber* no more."""
        with suppress(ValueError):
            self._subscribers.remove(subscriber)

    def watch(self, tracking_id: UUID, watcher: Callable[[], None]) -> None:
        """Call *watcher* when something may have become of the job *tracking_id*."""
        self._watchers.setdefault(tracking_id, []).append(watcher)

    def unwatch(self, tracking_id: UUID, watcher: Callable[[], None]) -> None:
        """Call *watcher* no more."""
        watchers = self._watchers.get(tracking_id, [])
        with suppress(ValueError):
            watchers.remove(watcher)
        if not watchers:
            self._watchers.pop(tracking_id, None)

    def finished(self, tracking_ids: Iterable[UUID]) -> None:
        """Tell who watches one of these jobs; costs nothing while nobody does."""
        if not self._watchers:
            return
        for tracking_id in tracking_ids:
            for watcher in tuple(self._watchers.get(tracking_id, ())):
                watcher()

    def pass_on(self, notice: Notice) -> None:
        """Tell every subscriber of *notice*, and who watches its job."""
        if notice.kind is NoticeKind.MISSED:
            self.finished(tuple(self._watchers))
        elif notice.kind is not NoticeKind.QUEUED and notice.tracking_id is not None:
            self.finished([notice.tracking_id])
        for subscriber in tuple(self._subscribers):
            subscriber(notice)

    def listen(self, storage: JobNotifier, queue_ids: frozenset[str]) -> None:
        """Pass on what *storage* pushes about *queue_ids*, in the background. Does nothing if it does so already."""
        if queue_ids <= self._listened:
            return
        for outdated in self._listening:  # queues were registered since then
            outdated.cancel()
        self._listened |= queue_ids
        self._listening.append(asyncio.create_task(self._listen(storage, self._listened), name="pannier hints"))

    async def stop(self) -> None:
        """Stop listening."""
        for listening in self._listening:
            listening.cancel()
        if self._listening:
            await asyncio.wait(self._listening)
        self._listening.clear()

    async def _listen(self, storage: JobNotifier, queue_ids: frozenset[str]) -> None:
        while True:
            try:
                async with storage.listen(queue_ids) as notices:
                    self._backoff.reset()
                    self.pass_on(MISSED)  # whatever happened before the subscription stood
                    async for notice in notices:
                        self.pass_on(notice)
            except Exception as error:  # whatever a storage raises; polling goes on meanwhile
                logger.warning("push notices are interrupted, polling until they are back: %s", error)
            await self._backoff.pause()
