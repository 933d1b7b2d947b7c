"""What the peers' modules share: how jobs are queued by several callers, and in batches. Standard library only."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from benchmarks.task import Answer, Task, rate, timed


async def time_calls(task: Task, put: Callable[[int], Awaitable[object]]) -> Answer:
    """Queue jobs one by one, each of `task.callers` callers awaiting his own."""

    async def call(numbers: Iterable[int]) -> None:
        for number in numbers:
            await put(number)

    with timed() as watch:
        await asyncio.gather(*(call(range(first, task.jobs, task.callers)) for first in range(task.callers)))
    return rate(task.jobs, watch)


async def time_batches(task: Task, put: Callable[[Sequence[int]], Awaitable[object]]) -> Answer:
    """Queue jobs in batches of `task.batch`."""
    with timed() as watch:
        await put_all(task, put)
    return rate(task.jobs, watch)


async def put_all(task: Task, put: Callable[[Sequence[int]], Awaitable[object]]) -> None:
    """Queue all jobs, not to be timed."""
    size = max(task.batch, 1_000)
    for first in range(0, task.jobs, size):
        await put(range(first, min(first + size, task.jobs)))
