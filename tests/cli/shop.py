"""A program whose jobs the command line works on, as a user would write it."""

import asyncio
import os
import time

from attrs import frozen

from pannier import NO_RETRY, Command, JobContext, JobQueues

jobs = JobQueues(os.environ["SHOP_STORAGE"])
till = "no job queues"


@frozen
class Greet(Command[str]):
    """Quick."""

    name: str


@jobs.handler()
async def greet(command: Greet) -> str:
    """Give a greeting."""
    return f"hello {command.name}"


@frozen
class Refuse(Command[None]):
    """Fails for good."""

    reason: str


@jobs.handler(retry=NO_RETRY)
async def refuse(command: Refuse) -> None:
    """Raise."""
    raise ValueError(command.reason)


@frozen
class Sit(Command[None]):
    """Runs until it is stopped."""


@jobs.handler()
async def sit(_: Sit, job: JobContext[None]) -> None:
    """Wait for ever, and say so."""
    await job.report(current_step=1, total_steps=2, status="sitting")
    await asyncio.Event().wait()


@frozen
class Hog(Command[None]):
    """Blocks the event loop, so that nothing can stop it."""

    seconds: float


@jobs.handler()
async def hog(command: Hog, job: JobContext[None]) -> None:
    """Sleep without awaiting."""
    await job.report(current_step=1, total_steps=2, status="hogging")
    time.sleep(command.seconds)  # noqa: ASYNC251  # that is the point
