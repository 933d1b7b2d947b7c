"""Storages behind a server that are odd, and right: the whole suite must pass on them, network rules included."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pannier.notices import Notice
from pannier.urls import StorageUrl
from pannier_testing.reference.loopback import Listener, LoopbackProvider
from pannier_testing.saboteurs.making import ANGEL, on_loopback

T = TypeVar("T")


@on_loopback(ANGEL)
class TriesAgainByItself(LoopbackProvider):
    """Repeats a call whose connection broke once by itself, as some drivers do."""

    async def exchange(self, work: Callable[[], Awaitable[T]]) -> T:
        """Try twice, within the one timeout."""
        try:
            return await super().exchange(work)
        except ConnectionError:
            return await super().exchange(work)


@on_loopback(ANGEL)
class ChangesItsConnection(LoopbackProvider):
    """Makes a new connection for every tenth call."""

    def __init__(self, url: StorageUrl) -> None:
        super().__init__(url)
        self._calls = 0

    async def exchange(self, work: Callable[[], Awaitable[T]]) -> T:
        """Drop the old one first."""
        self._calls += 1
        if self._calls % 10 == 0:
            self.drop()
        return await super().exchange(work)


@on_loopback(ANGEL)
class IsFarAway(LoopbackProvider):
    """Has 5 ms of latency on every call."""

    async def exchange(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait a little."""
        await asyncio.sleep(0.005)
        return await super().exchange(work)


class WatchfulListener(Listener):
    """Says MISSED now and then without a reason."""

    async def notices(self) -> AsyncIterator[Notice]:
        """Begin with MISSED."""
        for notice in self._missed:
            yield notice
        async for notice in super().notices():
            yield notice


@on_loopback(ANGEL)
class SaysMissedAtFirst(LoopbackProvider):
    """Tells every new listener to look for itself."""

    def listener(self, queue_ids: frozenset[str]) -> Listener:
        """Return such a listener."""
        return WatchfulListener(self.url, queue_ids, self.missed(queue_ids))
