"""Following a job, and leaving off."""

import asyncio

from attrs import frozen

from pannier import Command, JobQueues, JobStatus


@frozen
class Wait(Command[None]):
    """Never executed here."""


def test_following_may_be_left_off_without_closing_the_generator() -> None:
    """A follower that stops looking may be collected after the job queues were closed, and nobody hears of it."""
    complaints: list[object] = []

    async def look_once() -> JobStatus:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        jobs = JobQueues("memory://")
        jobs.declare(Wait)
        async with jobs:
            following = jobs.tracker(Wait).follow(await jobs.queue_job(Wait()))
            return (await anext(following)).status

    assert asyncio.run(look_once()) is JobStatus.PENDING
    assert complaints == []
