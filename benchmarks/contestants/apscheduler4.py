"""APScheduler 4, a pre-release: each job is stored, claimed and released in transactions of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apscheduler import AsyncScheduler
from apscheduler.abc import DataStore
from apscheduler.datastores.memory import MemoryDataStore

from benchmarks.contestants.peers import time_calls
from benchmarks.task import Answer, Countdown, Task, payload, rate, timed

COUNTDOWNS: list[Countdown] = []
"""APScheduler finds a job's function by its name, so that what it counts down stands here."""


async def convert(number: int, path: str, width: int, format: str) -> None:  # noqa: A002  # as in `payload`
    """Count."""
    COUNTDOWNS[-1].count()


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[AsyncScheduler]:
    """Make the tables."""
    async with AsyncScheduler(data_store(task), max_concurrent_jobs=max(task.concurrency, 100)) as scheduler:
        await scheduler.configure_task("convert", func=convert, job_executor="async", max_running_jobs=None)
        yield scheduler


def data_store(task: Task) -> DataStore:
    """Make what holds the jobs."""
    match task.storage:
        case "memory":
            return MemoryDataStore()
        case "mongo":
            from apscheduler.datastores.mongodb import MongoDBDataStore  # noqa: PLC0415  # each has its own driver

            return MongoDBDataStore(task.server)
        case _:
            from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore  # noqa: PLC0415  # as above
            from sqlalchemy import event  # noqa: PLC0415  # as above
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  # as above

            if task.storage == "postgres":
                engine = create_async_engine(task.server.replace("postgresql://", "postgresql+psycopg://"))
                return SQLAlchemyDataStore(engine)
            engine = create_async_engine(f"sqlite+aiosqlite:///{task.path}", connect_args={"timeout": 30})

            @event.listens_for(engine.sync_engine, "connect")
            def set_up(connection: object, _: object) -> None:
                cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute(f"PRAGMA synchronous = {'NORMAL' if task.storage == 'sqlite-normal' else 'FULL'}")

            return SQLAlchemyDataStore(engine)


def drain(task: Task) -> Answer:
    """Do the jobs by one scheduler."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    all_done = asyncio.Event()
    COUNTDOWNS.append(Countdown(task.jobs, all_done.set))
    async with opened(task) as scheduler:
        for number in range(task.jobs):
            await scheduler.add_job("convert", kwargs=payload(number))
        with timed() as watch:
            await scheduler.start_in_background()
            await all_done.wait()
        return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    async with opened(task) as scheduler:
        return await time_calls(task, lambda number: scheduler.add_job("convert", kwargs=payload(number)))
