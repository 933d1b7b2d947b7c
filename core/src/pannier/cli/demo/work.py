"""The demo's work: six commands, and a handler for each."""

import asyncio
import hashlib
import time
from datetime import timedelta

from attrs import frozen

from pannier import Command, HandlerRegistry, JobContext, JobResult, JobTracker, RetryPolicy, TrackableJob

handlers = HandlerRegistry()


@frozen
class Thumbnail(Command[str]):
    """Quick. Its handler is a plain function, which runs in a thread."""

    photo: str
    seconds: float


@handlers.handler(max_concurrency=4)
def make_thumbnail(command: Thumbnail) -> str:
    """Give the name of the thumbnail."""
    time.sleep(command.seconds)
    return thumbnail_of(command.photo)


def thumbnail_of(photo: str) -> str:
    """Return what the handler has to come up with."""
    return f"{hashlib.sha256(photo.encode()).hexdigest()[:8]}.webp"


@frozen
class Transcode(TrackableJob[JobResult[int]]):
    """Slow. Its handler is a class, and shows how far it is."""

    film: str
    frames: int
    seconds_a_frame: float


@handlers.handler(max_concurrency=5)
class Transcoder:
    """Stores its result again and again while it comes into being."""

    def __init__(self, tracker: JobTracker[Transcode]) -> None:
        self._tracker = tracker

    async def execute(self, command: Transcode) -> JobResult[int]:
        """Give the number of bytes."""
        film = JobResult[int](total_steps=command.frames)
        for frame in range(1, command.frames + 1):
            await asyncio.sleep(command.seconds_a_frame)
            film.current_step, film.current_status = frame, f"frame {frame} of {command.frames}"
            await self._tracker.store_job_result(command.tracking_id, film)
        film.current_status, film.result = "done", size_of(command)
        return film


def size_of(command: Transcode) -> int:
    """Return what the handler has to come up with."""
    return 4096 * command.frames


@frozen
class Deliver(Command[int]):
    """Fails a few times before it succeeds."""

    address: str
    failures: int


@handlers.handler(max_concurrency=5, retry=RetryPolicy(max_attempts=5, first_delay=timedelta(seconds=0.3)))
async def deliver(command: Deliver, job: JobContext[int]) -> int:
    """Give the number of the attempt that got through."""
    await asyncio.sleep(0.1)
    if job.attempt <= command.failures:
        raise ConnectionResetError(f"{command.address} hung up")
    return job.attempt


class CardDeclinedError(Exception):
    """No further attempt mends this."""


@frozen
class Charge(Command[None]):
    """Fails for good: the first time, the retry as well."""

    card: str


@handlers.handler(max_concurrency=3, retry=RetryPolicy(max_attempts=2, first_delay=timedelta(seconds=0.3)))
async def charge(command: Charge) -> None:
    """Find the card declined."""
    await asyncio.sleep(0.2)
    raise CardDeclinedError(f"{command.card} declined")


@frozen
class Remind(Command[str]):
    """Set for later."""

    whom: str


@handlers.handler(max_concurrency=4)
async def remind(command: Remind) -> str:
    """Give what was said."""
    return f"it is time, {command.whom}"


@frozen
class Crawl(Command[int]):
    """Goes on far longer than anybody waits; it is cancelled while it runs."""

    site: str
    pages: int


@handlers.handler(max_concurrency=2)
async def crawl(command: Crawl, job: JobContext[int]) -> int:
    """Give the number of pages, if it ever gets there."""
    for page in range(1, command.pages + 1):
        await asyncio.sleep(0.1)
        await job.report(current_step=page, total_steps=command.pages, status=f"page {page} of {command.pages}")
    return command.pages
