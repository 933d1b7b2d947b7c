"""Outages: the server is killed and comes back, workers are killed, the network is mute, and nothing is lost."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest
from tests.engine import program
from tests.engine.crew import DEADLINE_SECONDS, Crew

from pannier import JobQueues
from pannier.errors import StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.notices import Notice, NoticeKind
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job
from pannier_testing.proxy import FaultProxy

if TYPE_CHECKING:
    from tests.servers.mongo import MongoServer

    from pannier_mongo.provider import MongoStorage

NewId: TypeAlias = Callable[[], UUID]


@pytest.fixture
def own(
    runner: asyncio.Runner, plugins: Plugins, mongo_server: "MongoServer", database: str
) -> Iterator["MongoStorage"]:
    """An open storage on a server that may be killed."""
    storage: MongoStorage = plugins.create_storage(StorageUrl(f"{mongo_server.url}/{database}?timeout=2"))  # type: ignore[assignment]
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


def test_what_was_acknowledged_survives_the_server_s_death(
    runner: asyncio.Runner, own: "MongoStorage", mongo_server: "MongoServer", ids: NewId
) -> None:
    """Jobs are stored from ten tasks until the server dies, and again after it: each answered one is there (R85)."""
    acknowledged: set[UUID] = set()
    has_died = asyncio.Event()

    async def store() -> None:
        answers_left = 5
        while answers_left:
            jobs = [new_job(ids()), new_job(ids(), key=str(ids()))]
            try:
                acknowledged.update(await own.store_jobs(jobs))
            except StorageUnavailableError:  # a transaction; a single write outlives the outage, by the driver's retry
                await asyncio.sleep(0.05)
            else:
                answers_left -= has_died.is_set()

    async def kill() -> int:
        while len(acknowledged) < 50:  # noqa: ASYNC110  # as soon as the others have done so much
            await asyncio.sleep(0.01)
        await asyncio.to_thread(mongo_server.crash)
        before = len(acknowledged)
        has_died.set()
        await asyncio.to_thread(mongo_server.start)
        return before

    async def play() -> tuple[int, set[UUID]]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            before, *_ = await asyncio.gather(kill(), *(store() for _ in range(10)))
            page = await own.find_jobs(JobFilter(), limit=100_000)
        assert isinstance(before, int)
        return before, {job.tracking_id for job in page.jobs}

    before, stored = runner.run(play())
    assert 50 <= before < len(acknowledged)
    assert acknowledged <= stored


async def back(storage: "MongoStorage") -> None:
    """Wait until the storage's server answers again."""
    while True:
        try:
            await storage.read_clock()
        except StorageUnavailableError:
            await asyncio.sleep(0.05)
        else:
            return


def test_claims_and_settlements_survive_the_server_s_death(
    runner: asyncio.Runner, own: "MongoStorage", mongo_server: "MongoServer", ids: NewId
) -> None:
    """A lease that was given stands after the restart, and so does an outcome (R57, R85)."""
    runner.run(own.store_jobs([new_job(ids()), new_job(ids())]))
    settled, leased = runner.run(own.claim_jobs(claim_of(limit=2))).jobs
    runner.run(own.settle_jobs([Settlement(settled.lease, Succeeded())], now=T0))
    mongo_server.crash()
    with pytest.raises(StorageUnavailableError):
        runner.run(own.get_job(settled.tracking_id))
    mongo_server.start()
    runner.run(back(own))

    assert runner.run(own.get_job(leased.tracking_id)) == leased
    assert runner.run(own.renew_leases([leased.lease], now=T0, lease_for=LEASE)) == frozenset()
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1, (QUEUE, JobStatus.RUNNING): 1}


def test_a_listener_outlives_the_server(
    runner: asyncio.Runner, own: "MongoStorage", mongo_server: "MongoServer", ids: NewId
) -> None:
    """It opens another stream by itself, says MISSED, and hears what is stored from then on (R113)."""

    async def play() -> list[Notice]:
        async with asyncio.timeout(DEADLINE_SECONDS), own.listen(frozenset({QUEUE})) as notices:
            await asyncio.to_thread(mongo_server.crash)
            await asyncio.to_thread(mongo_server.start)
            heard = [await anext(notices)]
            await own.store_jobs([new_job(ids())])
            return [*heard, await anext(notices)]

    missed, queued = runner.run(play())
    assert missed == Notice(NoticeKind.MISSED, QUEUE)
    assert (queued.kind, queued.queue_id) == (NoticeKind.QUEUED, QUEUE)


def test_a_server_that_is_down_for_long_is_waited_for(
    runner: asyncio.Runner, own: "MongoStorage", mongo_server: "MongoServer", ids: NewId
) -> None:
    """Every call meanwhile fails within its timeout, thirty at once too, and those afterwards work (R109, R110)."""
    mongo_server.stop()

    async def play() -> Sequence[object]:
        return await asyncio.gather(*(own.store_jobs([new_job(ids())]) for _ in range(30)), return_exceptions=True)

    started = time.monotonic()
    answers = runner.run(play())
    taken = time.monotonic() - started
    mongo_server.start()
    runner.run(back(own))

    assert {type(answer) for answer in answers} == {StorageUnavailableError}
    assert taken < 10
    assert len(runner.run(own.store_jobs([new_job(ids())]))) == 1
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


@pytest.fixture
def crew(mongo_server: "MongoServer", database: str, tmp_path: Path) -> Iterator[Crew]:
    """Workers to be hired, on a server that may be killed."""
    crew = Crew(f"{mongo_server.url}/{database}?timeout=1", tmp_path)
    yield crew
    crew.end()


async def finished(jobs: JobQueues, queued: Sequence[UUID]) -> Counter[JobStatus]:
    """Wait until all jobs are complete, and count how they ended."""
    async with jobs, asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = [await jobs.storage.get_job(tracking_id) for tracking_id in queued]
            if all(job is not None and job.is_complete for job in found):
                return Counter(job.status for job in found if job is not None)
            await asyncio.sleep(0.1)


def test_two_workers_lose_nothing_when_one_of_them_and_then_the_server_is_killed(
    crew: Crew, mongo_server: "MongoServer"
) -> None:
    """Each job is done, by whoever is alive; what was not in progress at a kill is done once (R88, I1-I6)."""
    total = 120
    jobs = JobQueues(crew.url, handlers=program.jobs.registry)

    async def queue() -> list[UUID]:
        async with jobs:
            return await jobs.queue_jobs([program.Sleep(0.1, crew.journal) for _ in range(total)])

    queued = asyncio.run(queue())
    first, _ = crew.hire(), crew.hire()
    crew.wait_for("end", 20)
    first.send_signal(signal.SIGKILL)
    crew.hire()
    crew.wait_for("end", 50)
    mongo_server.crash()
    mongo_server.start()

    assert asyncio.run(finished(jobs, queued)) == {JobStatus.SUCCEEDED: total}
    in_progress = 4 + 2 * 4  # what one worker held when it was killed, and two when the server was
    assert total <= crew.count("end") <= total + in_progress
    assert crew.count("start") <= total + in_progress


def test_a_worker_in_a_silence_stops_in_time_and_goes_on_after_it(
    mongo_server: "MongoServer", database: str, tmp_path: Path
) -> None:
    """Handlers are stopped before their leases end, none runs twice at once, and every job is done (R113, E6)."""
    with FaultProxy(f"{mongo_server.url}/{database}?directConnection=true", tmp_path) as proxy:
        crew = Crew(f"{proxy.url}&timeout=0.5", tmp_path)
        straight = JobQueues(f"{mongo_server.url}/{database}", handlers=program.jobs.registry)

        async def queue() -> list[UUID]:
            async with straight:
                long = await straight.queue_jobs([program.Sleep(5, crew.journal) for _ in range(2)])
                return [*long, *await straight.queue_jobs([program.Note(n, 0.01, crew.journal) for n in range(6)])]

        queued = asyncio.run(queue())
        try:
            crew.hire()
            crew.wait_for("start", 2)
            proxy.set(is_silent=True)
            crew.wait_for("stopped:", 2)
            proxy.cut()
            proxy.heal()
            ended = asyncio.run(finished(straight, queued))
        finally:
            crew.end()

    assert ended == {JobStatus.SUCCEEDED: len(queued)}
    assert crew.count("start") == 4
    assert crew.count("end") == 2
