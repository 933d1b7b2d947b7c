"""What the engine's tests stand on: a storage of their own, and a deadline for everything."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from pannier import JobQueues, QueueOptions, RetryPolicy, WorkerOptions
from tests.engine.troubled import TroubledStorage

DEADLINE_SECONDS = 20

QUICK = QueueOptions(max_concurrency=4, retry=RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=10)))

SHORT_LEASES = WorkerOptions(
    lease_for=timedelta(milliseconds=600),
    renew_every=timedelta(milliseconds=200),
    storage_retry_delay=timedelta(milliseconds=20),
    shutdown_grace=timedelta(0),
)
OFTEN = evolve(SHORT_LEASES, probe_every=timedelta(milliseconds=50))


@pytest.fixture(params=["memory://{tmp_name}", "sqlite:///{tmp}/jobs.db?synchronous=normal"], ids=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a storage that nobody else uses."""
    template: str = request.param
    return template.format(tmp=tmp_path, tmp_name=tmp_path.name.replace("_", "-"))


@pytest.fixture
def jobs(url: str) -> JobQueues:
    """Job queues on that storage, with quick retries."""
    return JobQueues(url, defaults=QUICK)


@pytest.fixture
def storage() -> TroubledStorage:
    """A storage to make trouble with."""
    return TroubledStorage()


@pytest.fixture
def troubled(storage: TroubledStorage) -> JobQueues:
    """Job queues on the storage in trouble."""
    return JobQueues(storage, defaults=QUICK)


def play(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run *main* on an event loop of its own, with a deadline."""
    asyncio.run(asyncio.wait_for(main(), DEADLINE_SECONDS))


async def until(condition: Callable[[], Awaitable[object] | object]) -> None:
    """Wait until *condition* gives something true. The test's own deadline bounds it."""
    while True:
        answer = condition()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        await asyncio.sleep(0.005)
