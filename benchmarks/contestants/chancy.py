"""chancy: psycopg, one claim for a batch, what has finished is written once a second. Eager polling is on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chancy import Chancy, Queue, Worker, job

from benchmarks.contestants.peers import put_all, time_batches, time_calls
from benchmarks.task import Answer, Countdown, Task, payload, rate, timed

COUNTDOWNS: list[Countdown] = []
"""chancy imports a job's function by its name, so that what it counts down stands here."""


@job()  # type: ignore[untyped-decorator]  # it is not installed where types are checked
async def convert(number: int, path: str, width: int, format: str) -> None:  # noqa: A002  # as in `payload`
    """Count."""
    COUNTDOWNS[-1].count()


class Pusher:
    """Jobs to be queued."""

    def __init__(self, chancy: Chancy) -> None:
        self._chancy = chancy

    async def put(self, number: int) -> None:
        """Queue one job."""
        await self._chancy.push(convert.job.with_kwargs(**payload(number)))

    async def put_many(self, numbers: Sequence[int]) -> None:
        """Queue jobs in one call."""
        jobs = [convert.job.with_kwargs(**payload(number)) for number in numbers]
        async for _ in self._chancy.push_many(jobs, batch_size=len(jobs)):
            pass


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Chancy]:
    """Make the tables."""
    async with Chancy(task.server) as chancy:
        await chancy.migrate()
        queue = Queue("default", concurrency=task.concurrency, executor=Chancy.Executor.Async, eager_polling=True)
        await chancy.declare(queue, upsert=True)
        yield chancy


def drain(task: Task) -> Answer:
    """Do the jobs by one worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    all_done = asyncio.Event()
    COUNTDOWNS.append(Countdown(task.jobs, all_done.set))
    async with opened(task) as chancy:
        await put_all(task, Pusher(chancy).put_many)
        with timed() as watch:
            async with Worker(chancy, register_signal_handlers=False):
                await all_done.wait()
        return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    async with opened(task) as chancy:
        return await time_calls(task, Pusher(chancy).put)


def bulk(task: Task) -> Answer:
    """Queue jobs in batches."""
    return asyncio.run(_bulk(task))


async def _bulk(task: Task) -> Answer:
    async with opened(task) as chancy:
        return await time_batches(task, Pusher(chancy).put_many)
