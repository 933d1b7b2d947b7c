"""
huey, one worker thread, without a result store: its quickest setting.

Its worker deletes a job before running it, so that a crash loses it: one transaction a job, where at-least-once takes
two. huey's tasks are not awaited; more callers are more threads.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from huey import MemoryHuey, SqliteHuey
from huey.api import Huey, TaskWrapper
from huey.consumer import Consumer

from benchmarks.task import Answer, Countdown, Task, payload, rate, timed


def make(task: Task) -> Huey:
    """Make the queue, as durable as *task* wants it."""
    match task.storage:
        case "memory":
            return MemoryHuey(results=False)
        case "sqlite":
            return SqliteHuey(filename=str(task.path), results=False, fsync=True)
        case _:
            return SqliteHuey(filename=str(task.path), results=False, fsync=False)


def make_task(huey: Huey, countdown: Countdown) -> TaskWrapper:
    """Register what does nothing but count."""

    def convert(number: int, path: str, width: int, format: str) -> None:  # noqa: A002  # as in `payload`
        countdown.count()

    return huey.task()(convert)


def drain(task: Task) -> Answer:
    """Do the jobs by one consumer."""
    huey, all_done = make(task), Event()
    convert = make_task(huey, Countdown(task.jobs, all_done.set))
    for number in range(task.jobs):
        convert(**payload(number))
    consumer = Consumer(huey, workers=task.workers, periodic=False)
    with timed() as watch:
        consumer.start()
        all_done.wait()
    consumer.stop(graceful=True)
    return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs from as many threads as there are callers."""
    huey = make(task)
    convert = make_task(huey, Countdown(task.jobs, lambda: None))

    def call(numbers: Iterable[int]) -> None:
        for number in numbers:
            convert(**payload(number))

    with ThreadPoolExecutor(task.callers) as callers, timed() as watch:
        for waited in [callers.submit(call, range(first, task.jobs, task.callers)) for first in range(task.callers)]:
            waited.result()
    return rate(task.jobs, watch)
