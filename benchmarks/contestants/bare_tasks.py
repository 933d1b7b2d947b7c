"""What is measured of a bare storage, whichever it is."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from benchmarks.contestants.bare_worker import BareStorage, BareWorker
from benchmarks.task import Answer, Task, rate, timed


class FillableStorage(BareStorage, Protocol):
    """A bare storage that takes jobs in, too."""

    async def put(self, numbers: Sequence[int], /) -> None:
        """Store the jobs *numbers*."""
        ...


Opened = Callable[[Task], AbstractAsyncContextManager[FillableStorage]]
"""Makes the storage that a task is done on, and opens it."""


async def drain(task: Task, opened: Opened, *, window: int, claimers: int = 1) -> Answer:
    """Do the jobs by one bare worker."""

    async def handler(_: object) -> None:
        return None

    async with opened(task) as store:
        await store.put(range(task.jobs))
        with timed() as watch:
            await BareWorker(store, handler, window=window, claimers=claimers).drain(task.jobs)
        return rate(task.jobs, watch)


async def enqueue(task: Task, opened: Opened) -> Answer:
    """Store jobs, each caller awaiting his own."""

    async def call(numbers: Iterable[int]) -> None:
        for number in numbers:
            await store.put([number])

    async with opened(task) as store:
        with timed() as watch:
            await asyncio.gather(*(call(range(first, task.jobs, task.callers)) for first in range(task.callers)))
        return rate(task.jobs, watch)


async def bulk(task: Task, opened: Opened) -> Answer:
    """Store jobs in batches."""
    async with opened(task) as store:
        with timed() as watch:
            for first in range(0, task.jobs, task.batch):
                await store.put(range(first, min(first + task.batch, task.jobs)))
        return rate(task.jobs, watch)
