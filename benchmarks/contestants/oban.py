"""oban: psycopg, one claim for a batch, one statement for each finished job."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from oban import Oban, worker
from oban.job import Job
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from benchmarks.contestants.peers import put_all, time_batches, time_calls
from benchmarks.task import Answer, Countdown, Task, payload, rate, timed


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[AsyncConnectionPool]:
    """Make the tables."""
    async with AsyncConnectionPool(task.server, min_size=4, max_size=10, open=False) as pool:
        await install(pool)
        yield pool


class Queue:
    """Jobs to be queued."""

    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def put(self, number: int) -> None:
        """Queue one job."""
        await self._oban.enqueue(new_job(number))

    async def put_many(self, numbers: Sequence[int]) -> None:
        """Queue jobs in one call."""
        await self._oban.enqueue_many([new_job(number) for number in numbers])


COUNTDOWNS: list[Countdown] = []
"""oban looks a worker's class up by its name, so that what it counts down stands here."""


@worker(queue="default")
class Convert:
    """Does nothing but count."""

    async def process(self, _: Job) -> None:
        """Count."""
        COUNTDOWNS[-1].count()


def new_job(number: int) -> Job:
    """Make the job *number*."""
    return Convert.new(payload(number))  # type: ignore[attr-defined]  # the decorator gives it that


def drain(task: Task) -> Answer:
    """Do the jobs by one worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    all_done = asyncio.Event()
    COUNTDOWNS.append(Countdown(task.jobs, all_done.set))
    async with opened(task) as pool:
        await put_all(task, Queue(Oban(pool=pool, name="client")).put_many)
        with timed() as watch:
            async with Oban(pool=pool, queues={"default": task.concurrency}):
                await all_done.wait()
        return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    async with opened(task) as pool:
        return await time_calls(task, Queue(Oban(pool=pool)).put)


def bulk(task: Task) -> Answer:
    """Queue jobs in batches."""
    return asyncio.run(_bulk(task))


async def _bulk(task: Task) -> Answer:
    async with opened(task) as pool:
        return await time_batches(task, Queue(Oban(pool=pool)).put_many)
