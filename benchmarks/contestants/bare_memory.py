"""Bare memory: a heap of jobs, and a dict of leases."""

import asyncio
import heapq
import json
import time
from collections.abc import Sequence

from benchmarks.contestants.bare_worker import BareWorker, Claimed
from benchmarks.task import Answer, Task, payload, rate, timed

LEASE_SECONDS = 30.0


class Store:
    """Jobs by the instant at which they fall due."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int]] = []
        self._payloads: dict[int, str] = {}
        self._leases: dict[int, float] = {}

    def put(self, number: int) -> None:
        """Store the job *number*."""
        self._payloads[number] = json.dumps(payload(number))
        heapq.heappush(self._due, (time.time(), number))

    async def claim(self, limit: int) -> Sequence[Claimed]:
        """Lease the first *limit* jobs that are due."""
        now = time.time()
        claimed: list[Claimed] = []
        while len(claimed) < limit and self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            self._leases[key] = now + LEASE_SECONDS
            claimed.append((key, self._payloads[key]))
        return claimed

    async def complete(self, keys: Sequence[int]) -> None:
        """Drop the leases of *keys*."""
        for key in keys:
            del self._leases[key]


def drain(task: Task) -> Answer:
    """Do the jobs by one bare worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    store = Store()
    for number in range(task.jobs):
        store.put(number)

    async def handler(_: object) -> None:
        return None

    with timed() as watch:
        await BareWorker(store, handler, window=task.concurrency).drain(task.jobs)
    return rate(task.jobs, watch)
