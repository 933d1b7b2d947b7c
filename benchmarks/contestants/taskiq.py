"""
taskiq's InMemoryBroker: a job starts as a task of the caller's loop when it is queued.

There is no queue to drain, so queueing and running are timed together, and nothing is kept for later.
"""

import asyncio

from taskiq import InMemoryBroker

from benchmarks.task import Answer, Countdown, Task, payload, rate, timed


def drain(task: Task) -> Answer:
    """Queue the jobs, and wait until all have run."""
    return asyncio.run(_drain(task))


async def _drain(task: Task) -> Answer:
    broker = InMemoryBroker()
    all_done = asyncio.Event()
    countdown = Countdown(task.jobs, all_done.set)

    @broker.task(task_name="convert")  # type: ignore[untyped-decorator]  # it is not installed where types are checked
    async def convert(number: int, path: str, width: int, format: str) -> None:  # noqa: A002  # as in `payload`
        countdown.count()

    await broker.startup()
    with timed() as watch:
        for number in range(task.jobs):
            await convert.kiq(**payload(number))
        await all_done.wait()
    await broker.shutdown()
    return rate(task.jobs, watch)
