"""The program that the tests with real processes work on: `pannier worker tests.engine.program:jobs`."""

import asyncio
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from attrs import frozen

from pannier import Command, JobContext, JobQueues, QueueOptions, RetryPolicy

jobs = JobQueues(
    os.environ.get("PANNIER_TEST_STORAGE", "memory://"),
    defaults=QueueOptions(max_concurrency=4, retry=RetryPolicy(max_attempts=3, first_delay=timedelta(0))),
)
"""On the storage that the environment names."""


@frozen
class Block(Command[str]):
    """Blocks the event loop."""

    seconds: float
    journal: str


@frozen
class Sleep(Command[str]):
    """Waits without blocking anything, and stops when it is told to."""

    seconds: float
    journal: str


@frozen
class Stubborn(Command[str]):
    """Runs in a thread, and never looks at its token."""

    seconds: float
    journal: str


@frozen
class Kill(Command[str]):
    """Kills its worker, as a fault in native code does."""

    journal: str


@frozen
class Innocent(Command[str]):
    """Does no harm."""

    journal: str


@frozen
class Note(Command[int]):
    """Writes down that it runs, one of many."""

    number: int
    seconds: float
    journal: str


def write(journal: str, what: str) -> None:
    """Append a line: what happens, in which process, and when."""
    with Path(journal).open("a") as file:
        file.write(f"{what} {os.getpid()} {time.time()}\n")


@jobs.handler()
async def block(command: Block) -> str:
    write(command.journal, "start")
    time.sleep(command.seconds)  # noqa: ASYNC251  # what no handler should do
    write(command.journal, "end")
    return "done"


@jobs.handler()
async def sleep(command: Sleep, job: JobContext[str]) -> str:
    write(command.journal, "start")
    try:
        await asyncio.sleep(command.seconds)
    except asyncio.CancelledError:
        write(command.journal, f"stopped:{job.stop.reason}")
        raise
    write(command.journal, "end")
    return "done"


@jobs.handler()
async def note(command: Note) -> int:
    write(command.journal, f"note:{command.number}")
    await asyncio.sleep(command.seconds)
    return command.number


@jobs.handler()
def stubborn(command: Stubborn) -> str:
    write(command.journal, "start")
    time.sleep(command.seconds)
    write(command.journal, "end")
    return "done"


@jobs.handler()
async def kill(command: Kill) -> str:
    write(command.journal, "kill")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@jobs.handler()
async def innocent(command: Innocent) -> str:
    await asyncio.sleep(0.05)
    write(command.journal, "innocent")
    return "done"
