"""What the engine's tests stand on: a storage of their own, and a deadline for everything."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import pytest

from pannier import JobQueues, QueueOptions, RetryPolicy

DEADLINE_SECONDS = 20


@pytest.fixture(params=["memory://", "sqlite:///{tmp}/jobs.db?synchronous=normal"], ids=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a storage that nobody else uses."""
    template: str = request.param
    return template.replace("{tmp}", str(tmp_path))


@pytest.fixture
def jobs(url: str) -> JobQueues:
    """Job queues on that storage, with quick retries."""
    quick = RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=10))
    return JobQueues(url, defaults=QueueOptions(max_concurrency=4, retry=quick))


def play(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run *main* on an event loop of its own, with a deadline."""
    asyncio.run(asyncio.wait_for(main(), DEADLINE_SECONDS))


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until *condition* gives something true. The test's own deadline bounds it."""
    while not await condition():  # noqa: ASYNC110  # what is waited for tells nobody
        await asyncio.sleep(0.005)
