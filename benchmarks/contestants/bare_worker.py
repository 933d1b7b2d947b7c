"""
The bare worker: the limit that a real worker is held against.

It claims batches with a lease, decodes JSON, runs one task a job, and completes in batches: what no worker of this kind
can leave out. It has no fence, no results, retries, time limits, routing, shutdown or log.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Claimed = tuple[int, str]
"""A job's key and its payload as JSON."""


class BareStorage(Protocol):
    """What the bare worker needs of a storage."""

    async def claim(self, limit: int) -> Sequence[Claimed]:
        """Lease up to *limit* jobs, the oldest first."""
        ...

    async def complete(self, keys: Sequence[int]) -> None:
        """Mark leased jobs as done."""
        ...


class BareWorker:
    """
    Runs at most *window* jobs at once; claims when half of that is free, completes what has ended at once.

    Where the storage takes several claims at once, *claimers* take turns, so that one claim is under way while the jobs
    of another run.
    """

    def __init__(
        self,
        storage: BareStorage,
        handler: Callable[[object], Awaitable[object]],
        *,
        window: int,
        claimers: int = 1,
    ) -> None:
        self._storage = storage
        self._handler = handler
        self._window = window
        self._claimers = claimers
        self._asked = 0
        self._running: set[asyncio.Task[None]] = set()
        self._ended: list[int] = []
        self._is_hungry = asyncio.Event()
        self._has_ended = asyncio.Event()

    async def drain(self, jobs: int) -> None:
        """Return when *jobs* are completed."""
        claiming = [asyncio.create_task(self._claim()) for _ in range(self._claimers)]
        await self._complete(jobs)
        for task in claiming:
            task.cancel()
        await asyncio.wait(claiming)

    async def _claim(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._is_hungry.clear()
            free = self._window - len(self._running) - self._asked
            if free > self._window // 2 or not (self._running or self._asked):
                self._asked += free
                claimed = await self._storage.claim(free)
                self._asked -= free
                for key, text in claimed:
                    self._running.add(loop.create_task(self._run(key, text)))
                if claimed:
                    continue
            await self._is_hungry.wait()

    async def _run(self, key: int, text: str) -> None:
        await self._handler(json.loads(text))
        self._running.discard(asyncio.current_task())
        self._ended.append(key)
        self._has_ended.set()
        if len(self._running) + self._asked <= self._window // 2:
            self._is_hungry.set()

    async def _complete(self, jobs: int) -> None:
        while jobs:
            await self._has_ended.wait()
            self._has_ended.clear()
            ended, self._ended = self._ended, []
            await self._storage.complete(ended)
            jobs -= len(ended)
