"""What a stranger writes first: queue a job on the storage that the argument names, work on it, print the result."""

import asyncio
import sys
from datetime import timedelta

from attrs import frozen

from pannier import Command, JobContext, JobQueues

jobs = JobQueues(sys.argv[1])


@frozen
class Add(Command[int]):
    """Add two numbers."""

    left: int
    right: int


@jobs.handler()
async def add(command: Add, job: JobContext[int]) -> int:
    """Add them."""
    return command.left + command.right


async def main() -> None:
    """Queue, work, and wait for the result."""
    async with jobs.worker():
        tracking_id = await jobs.queue_job(Add(2, 3))
        print(await jobs.tracker(Add).wait_for_result(tracking_id, timeout=timedelta(seconds=30)))


asyncio.run(main())
