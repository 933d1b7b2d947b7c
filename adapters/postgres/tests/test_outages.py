"""Outages: the server is killed and comes back, workers are killed, and nothing is lost (R85, R88, I1-I6)."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from tests.engine import program
from tests.engine.crew import DEADLINE_SECONDS, Crew, processor_seconds

from pannier import JobQueues
from pannier.errors import StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.notices import Notice, NoticeKind
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

    from pannier_postgres.provider import PostgresStorage

NewId = Callable[[], UUID]


@contextmanager
def killed_after(server: "PostgresServer", seconds: float) -> Iterator[None]:
    """Kill the server while the block runs, and start it again."""

    def restart() -> None:
        time.sleep(seconds)
        server.kill()
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def own(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer", schema: str
) -> Iterator["PostgresStorage"]:
    """An open storage on a server that may be killed."""
    storage: PostgresStorage = plugins.create_storage(StorageUrl(f"{postgres_server.url}?schema={schema}&timeout=2"))  # type: ignore[assignment]
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


def test_what_was_acknowledged_survives_the_server_s_death(
    runner: asyncio.Runner, own: "PostgresStorage", postgres_server: "PostgresServer", ids: NewId
) -> None:
    """Jobs are stored from ten tasks until the server dies, and again after it: each answered one is there."""
    acknowledged: set[UUID] = set()
    failures: Counter[str] = Counter()

    async def store(until: float) -> None:
        while time.monotonic() < until or not failures:
            job = new_job(ids())
            try:
                acknowledged.update(await own.store_jobs([job]))
            except StorageUnavailableError:
                failures["unavailable"] += 1
                await asyncio.sleep(0.05)

    async def play() -> dict[UUID, JobStatus]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            with killed_after(postgres_server, 0.5):
                await asyncio.gather(*(store(time.monotonic() + 3) for _ in range(10)))
            page = await own.find_jobs(JobFilter(), limit=100_000)
        return {job.tracking_id: job.status for job in page.jobs}

    stored = runner.run(play())
    assert failures["unavailable"] > 0
    assert acknowledged <= stored.keys()


def test_claims_and_settlements_survive_the_server_s_death(
    runner: asyncio.Runner, own: "PostgresStorage", postgres_server: "PostgresServer", ids: NewId
) -> None:
    """A lease that was given stands after the restart, and so does an outcome (R57, R85)."""
    runner.run(own.store_jobs([new_job(ids()), new_job(ids())]))
    settled, leased = runner.run(own.claim_jobs(claim_of(limit=2))).jobs
    runner.run(own.settle_jobs([Settlement(settled.lease, Succeeded())], now=T0))
    postgres_server.kill()
    with pytest.raises(StorageUnavailableError):
        runner.run(own.get_job(settled.tracking_id))
    postgres_server.start()

    assert runner.run(own.get_job(leased.tracking_id)) == leased
    assert runner.run(own.renew_leases([leased.lease], now=T0, lease_for=LEASE)) == frozenset()
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1, (QUEUE, JobStatus.RUNNING): 1}


def test_a_listener_outlives_the_server(
    runner: asyncio.Runner, own: "PostgresStorage", postgres_server: "PostgresServer", ids: NewId
) -> None:
    """It connects anew by itself, says MISSED, and hears what is stored from then on."""

    async def play() -> list[Notice]:
        async with asyncio.timeout(DEADLINE_SECONDS), own.listen(frozenset({QUEUE})) as notices:
            await asyncio.to_thread(postgres_server.kill)
            await asyncio.to_thread(postgres_server.start)
            heard = [await anext(notices)]
            await own.store_jobs([new_job(ids())])
            return [*heard, await anext(notices)]

    assert runner.run(play()) == [Notice(NoticeKind.MISSED, QUEUE), Notice(NoticeKind.QUEUED, QUEUE)]


def test_a_server_that_is_down_for_long_is_waited_for(
    runner: asyncio.Runner, own: "PostgresStorage", postgres_server: "PostgresServer", ids: NewId
) -> None:
    """Every call meanwhile fails at once, by itself and in groups, and the first one afterwards works."""
    postgres_server.stop()

    async def play() -> list[object]:
        started = time.monotonic()
        answers: list[object] = list(
            await asyncio.gather(*(own.store_jobs([new_job(ids())]) for _ in range(30)), return_exceptions=True)
        )
        assert time.monotonic() - started < 10
        return answers

    answers = runner.run(play())
    postgres_server.start()

    assert {type(answer) for answer in answers} == {StorageUnavailableError}
    assert len(runner.run(own.store_jobs([new_job(ids())]))) == 1
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


@pytest.fixture
def crew(postgres_server: "PostgresServer", schema: str, tmp_path: Path) -> Iterator[Crew]:
    """Workers to be hired, on a server that may be killed."""
    crew = Crew(f"{postgres_server.url}?schema={schema}&timeout=1", tmp_path)
    yield crew
    crew.end()


def test_two_workers_lose_nothing_when_one_of_them_and_then_the_server_is_killed(
    crew: Crew, postgres_server: "PostgresServer"
) -> None:
    """Each job is done, by whoever is alive; what was not in progress at a kill is done once."""
    total = 160
    jobs = JobQueues(crew.url, handlers=program.jobs.registry)

    async def queue() -> list[UUID]:
        async with jobs:
            return await jobs.queue_jobs([program.Sleep(0.1, crew.journal) for _ in range(total)])

    async def finished() -> Counter[JobStatus]:
        async with jobs, asyncio.timeout(DEADLINE_SECONDS):
            found = [await jobs.storage.get_job(tracking_id) for tracking_id in queued]
            while not all(job is not None and job.is_complete for job in found):
                await asyncio.sleep(0.1)
                found = [await jobs.storage.get_job(tracking_id) for tracking_id in queued]
            return Counter(job.status for job in found if job is not None)

    queued = asyncio.run(queue())
    first, _ = crew.hire(), crew.hire()
    crew.wait_for("end", 20)
    first.send_signal(signal.SIGKILL)
    crew.hire()
    crew.wait_for("end", 60)
    postgres_server.kill()
    postgres_server.start()

    assert asyncio.run(finished()) == {JobStatus.SUCCEEDED: total}
    in_progress = 4 + 2 * 4  # what one worker held when it was killed, and two when the server was
    assert total <= crew.count("end") <= total + in_progress
    assert crew.count("start") <= total + in_progress


def test_a_worker_whose_server_is_down_hardly_uses_the_processor(crew: Crew, postgres_server: "PostgresServer") -> None:
    """Less than a twentieth of one, while it tries to claim, renew, settle and listen again and again (R113)."""
    jobs = JobQueues(crew.url, handlers=program.jobs.registry)

    async def queue() -> list[UUID]:
        async with jobs:
            return await jobs.queue_jobs([program.Sleep(0.1, crew.journal) for _ in range(40)])

    queued = asyncio.run(queue())
    worker = crew.hire()
    crew.wait_for("end", 8)
    postgres_server.stop()
    try:
        time.sleep(2)  # a lease: what ran and waited has been given up
        before, began = processor_seconds(worker.pid), time.monotonic()
        time.sleep(8)
        share = (processor_seconds(worker.pid) - before) / (time.monotonic() - began)
    finally:
        postgres_server.start()

    assert worker.poll() is None
    assert share < 0.05
    crew.wait_for("end", len(queued))
