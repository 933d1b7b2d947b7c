"""
pgqueuer: asyncpg, a claim and a log statement for each batch of jobs. A finished job leaves the queue's table.

`task.batch` is its `batch_size` in a drain.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.contestants.peers import put_all, time_batches, time_calls
from benchmarks.task import Answer, Countdown, Task, payload, rate, timed


class Queue:
    """Jobs to be queued."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def put(self, number: int) -> None:
        """Queue one job."""
        await self._queries.enqueue("convert", json.dumps(payload(number)).encode())

    async def put_many(self, numbers: Sequence[int]) -> None:
        """Queue jobs in one statement."""
        payloads = [json.dumps(payload(number)).encode() for number in numbers]
        await self._queries.enqueue(["convert"] * len(payloads), payloads, [0] * len(payloads))


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[AsyncpgDriver]:
    """Make the tables."""
    connection = await asyncpg.connect(task.server)
    driver = AsyncpgDriver(connection)
    await Queries(driver).install()
    try:
        yield driver
    finally:
        connection.terminate()


def drain(task: Task) -> Answer:
    """Do the jobs by one worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    async with opened(task) as driver:
        await put_all(task, Queue(Queries(driver)).put_many)
        worker = PgQueuer(driver)
        countdown = Countdown(task.jobs, worker.shutdown.set)

        @worker.entrypoint("convert")  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def convert(job: Job) -> None:
            json.loads(job.payload or b"")
            countdown.count()

        with timed() as watch:
            await worker.run(dequeue_timeout=timedelta(seconds=1), batch_size=task.batch)
        return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    async with opened(task) as driver:
        return await time_calls(task, Queue(Queries(driver)).put)


def bulk(task: Task) -> Answer:
    """Queue jobs in batches."""
    return asyncio.run(_bulk(task))


async def _bulk(task: Task) -> Answer:
    async with opened(task) as driver:
        return await time_batches(task, Queue(Queries(driver)).put_many)
