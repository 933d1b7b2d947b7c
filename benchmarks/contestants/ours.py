"""
pannier as a program uses it, with its defaults: fences, results, renewals, retries, INFO logging to a file.

After a drain everything is read back through another connection: every job has succeeded, with its result.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from attrs import frozen

from benchmarks.task import Answer, Countdown, Task, payload, rate, timed
from pannier import Command, HandlerRegistry, JobQueues
from pannier.inspection import JobFilter
from pannier.records import JobStatus
from pannier.worker import worker as _imported_before_the_clock_starts  # noqa: F401

if TYPE_CHECKING:
    from pannier.storage import JobInspector


@frozen
class Convert(Command[int]):
    """What `payload` holds."""

    number: int
    path: str
    width: int
    format: str


def commands(numbers: Iterable[int]) -> list[Convert]:
    """Return the commands *numbers*."""
    return [Convert(**payload(number)) for number in numbers]  # type: ignore[arg-type]  # they are of these types


def url(task: Task) -> str:
    """Return the URL of the task's storage."""
    match task.storage:
        case "memory":
            return "memory://benchmark"
        case "sqlite":
            return f"sqlite:///{task.path}"
        case "sqlite-normal":
            return f"sqlite:///{task.path}?synchronous=normal"
        case _:
            return task.server


def drain(task: Task) -> Answer:
    """Do the jobs by one worker."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    logging.basicConfig(filename=task.folder / "worker.log", level=logging.INFO)
    all_done = asyncio.Event()
    countdown = Countdown(task.jobs, all_done.set)
    handlers = HandlerRegistry()

    @handlers.handler(max_concurrency=task.concurrency)
    async def convert(command: Convert) -> int:
        countdown.count()
        return command.number

    async with JobQueues(url(task), handlers=handlers) as jobs:
        for first in range(0, task.jobs, 1000):
            await jobs.queue_jobs(commands(range(first, min(first + 1000, task.jobs))))
        with timed() as watch:
            async with jobs.worker():
                await all_done.wait()
        await check_all_succeeded(task)
    return rate(task.jobs, watch)


async def check_all_succeeded(task: Task) -> None:
    """
    Read every job through a connection of its own.

    Raises:
        RuntimeError: One has not succeeded, or not with its result.
    """
    seen = 0
    async with JobQueues(url(task)) as jobs:
        inspector, cursor = cast("JobInspector", jobs.storage), None
        while True:
            page = await inspector.find_jobs(JobFilter(), cursor=cursor, limit=1000)
            for job in page.jobs:
                number = cast("dict[str, int]", job.command.data)["number"]
                if job.status is not JobStatus.SUCCEEDED or job.result is None or job.result.data != number:
                    raise RuntimeError(f"job {number} has not succeeded: {job!r}")
            seen += len(page.jobs)
            cursor = page.cursor
            if cursor is None:
                break
    if seen != task.jobs:
        raise RuntimeError(f"{task.jobs} jobs were queued, {seen} are stored")


def enqueue(task: Task) -> Answer:
    """Queue jobs, each caller awaiting his own."""
    return asyncio.run(_enqueue(task))


async def _enqueue(task: Task) -> Answer:
    handlers = HandlerRegistry()
    handlers.declare(Convert)

    async def call(numbers: Iterable[int]) -> None:
        for command in commands(numbers):
            await jobs.queue_job(command)

    async with JobQueues(url(task), handlers=handlers) as jobs:
        with timed() as watch:
            await asyncio.gather(*(call(range(first, task.jobs, task.callers)) for first in range(task.callers)))
        return rate(task.jobs, watch)


def bulk(task: Task) -> Answer:
    """Queue jobs in batches."""
    return asyncio.run(_bulk(task))


async def _bulk(task: Task) -> Answer:
    handlers = HandlerRegistry()
    handlers.declare(Convert)
    async with JobQueues(url(task), handlers=handlers) as jobs:
        with timed() as watch:
            for first in range(0, task.jobs, task.batch):
                await jobs.queue_jobs(commands(range(first, min(first + task.batch, task.jobs))))
        return rate(task.jobs, watch)
