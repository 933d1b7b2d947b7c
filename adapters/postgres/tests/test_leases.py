"""Leases of real worker processes: renewed past a blocked loop, and given up in time when the server is gone (E6)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import asyncpg
import pytest
from tests.engine import program
from tests.engine.crew import DEADLINE_SECONDS, Crew

from pannier import JobQueues, JobRecord

if TYPE_CHECKING:
    from datetime import datetime

    from pannier_postgres._connection import Connection

T = TypeVar("T")

LEASE_SECONDS = 2.0


class Lines:
    """What the handlers of a crew wrote down."""

    def __init__(self, crew: Crew) -> None:
        self._path = Path(crew.journal)

    def of(self, what: str) -> list[tuple[str, float]]:
        """Return those lines that begin with *what*: the word, and when it was written."""
        text = self._path.read_text() if self._path.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [(word, float(at)) for word, _, at in found if word.startswith(what)]


@pytest.fixture
def crew(url: str, tmp_path: Path) -> Iterator[Crew]:
    """Worker processes on a schema of their own; their calls wait 0.3 s at most."""
    crew = Crew(f"{url}&timeout=0.3", tmp_path)
    yield crew
    crew.end()


def with_jobs(runner: asyncio.Runner, url: str, use: Callable[[JobQueues], Awaitable[T]]) -> T:
    """Run *use* with the jobs of *url*."""

    async def main() -> T:
        async with JobQueues(url, handlers=program.jobs.registry) as jobs:
            return await use(jobs)

    return runner.run(main())


def stored(runner: asyncio.Runner, url: str, tracking_id: UUID) -> JobRecord:
    """Return a stored job."""
    job = with_jobs(runner, url, lambda jobs: jobs.storage.get_job(tracking_id))
    assert job is not None
    return job


@contextmanager
def held(runner: asyncio.Runner, other: "Connection") -> Iterator[None]:
    """Lock the table against all writes: whoever wants to renew a lease gets no answer that helps."""
    runner.run(other.execute("BEGIN"))
    runner.run(other.execute("LOCK TABLE jobs IN EXCLUSIVE MODE"))
    yield
    runner.run(other.execute("ROLLBACK"))


def lease_end(runner: asyncio.Runner, other: "Connection") -> float:
    """Return when the only job's lease ends, in seconds since 1970."""
    end: datetime = runner.run(other.fetchval("SELECT dequeue_after FROM jobs"))
    return end.timestamp()


@pytest.fixture
def other(runner: asyncio.Runner, postgres_url: str, schema: str, url: str) -> Iterator["Connection"]:
    """Another program's connection to the same database, which finds the schema's tables by their names alone."""
    with_jobs(runner, url, lambda jobs: jobs.storage.get_job(UUID(int=0)))  # makes the tables
    connection = runner.run(asyncpg.connect(postgres_url, server_settings={"search_path": schema}))
    yield connection
    runner.run(connection.close(timeout=5))


def test_a_handler_that_blocks_the_loop_is_not_run_twice(runner: asyncio.Runner, url: str, crew: Crew) -> None:
    """Leases are renewed from a thread, so that three lease times without a loop lose nothing."""
    command = program.Block(3 * LEASE_SECONDS, crew.journal)
    tracking_id = with_jobs(runner, url, lambda jobs: jobs.queue_job(command))
    crew.hire()
    crew.wait_for("start", 1)
    crew.hire()

    crew.wait_for("end", 1)
    end = time.monotonic() + DEADLINE_SECONDS
    while not stored(runner, url, tracking_id).is_complete:
        assert time.monotonic() < end, "it was never settled"

    assert (crew.count("start"), crew.count("end")) == (1, 1)
    assert stored(runner, url, tracking_id).fence == 1


def test_a_worker_that_lost_its_storage_stops_its_handlers_before_their_leases_lapse(
    runner: asyncio.Runner, url: str, crew: Crew, other: "Connection"
) -> None:
    """An async handler is cancelled in time, and the process lives on."""
    with_jobs(runner, url, lambda jobs: jobs.queue_job(program.Sleep(60, crew.journal)))
    worker = crew.hire()
    crew.wait_for("start", 1)

    with held(runner, other):
        crew.wait_for("stopped", 1)
        lease_ends_at = lease_end(runner, other)
        assert worker.poll() is None

    [(what, at)] = Lines(crew).of("stopped")
    assert what == "stopped:lease_ending"
    assert at < lease_ends_at


@pytest.mark.parametrize("command", [program.Stubborn, program.Block])
def test_a_worker_whose_handler_cannot_be_stopped_ends_its_process_before_the_lease_does(
    runner: asyncio.Runner,
    url: str,
    crew: Crew,
    other: "Connection",
    command: type[program.Stubborn | program.Block],
) -> None:
    """With 75, whether the handler sits in a thread or blocks the loop."""
    with_jobs(runner, url, lambda jobs: jobs.queue_job(command(60, crew.journal)))
    worker = crew.hire()
    crew.wait_for("start", 1)

    with held(runner, other):
        code = worker.wait(DEADLINE_SECONDS)
        ended_at = time.time()
        lease_ends_at = lease_end(runner, other)

    assert code == 75
    assert ended_at < lease_ends_at
