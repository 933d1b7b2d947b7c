"""procrastinate: psycopg, one claim and one finish for each job."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from benchmarks.contestants.peers import put_all, time_batches, time_calls
from benchmarks.task import Answer, Countdown, Task, payload, rate, timed


class Queue:
    """The application, and its one task."""

    def __init__(self, app: App, countdown: Countdown) -> None:
        self.app = app

        async def convert(number: int, path: str, width: int, format: str) -> None:  # noqa: A002  # as in `payload`
            countdown.count()

        self._task = app.task(name="convert")(convert)

    async def put(self, number: int) -> None:
        """Queue one job."""
        await self._task.defer_async(**payload(number))

    async def put_many(self, numbers: Sequence[int]) -> None:
        """Queue jobs in one statement."""
        await self._task.batch_defer_async(*(payload(number) for number in numbers))


@asynccontextmanager
async def opened(task: Task, countdown: Countdown) -> AsyncIterator[Queue]:
    """Make the tables."""
    app = App(connector=PsycopgConnector(conninfo=task.server))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield Queue(app, countdown)


def drain(task: Task) -> Answer:
    """Do the jobs by one worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    all_done = asyncio.Event()
    async with opened(task, Countdown(task.jobs, all_done.set)) as queue:
        await put_all(task, queue.put_many)
        with timed() as watch:
            worker = asyncio.create_task(
                queue.app.run_worker_async(concurrency=task.concurrency, install_signal_handlers=False)
            )
            await all_done.wait()
        worker.cancel()
        await asyncio.wait([worker])
        return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    async with opened(task, Countdown(task.jobs, lambda: None)) as queue:
        return await time_calls(task, queue.put)


def bulk(task: Task) -> Answer:
    """Queue jobs in batches."""
    return asyncio.run(_bulk(task))


async def _bulk(task: Task) -> Answer:
    async with opened(task, Countdown(task.jobs, lambda: None)) as queue:
        return await time_batches(task, queue.put_many)
