"""Outages, the same for every storage with a server: it is killed and comes back, workers die, and nothing is lost."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import pytest
from attrs import frozen
from tests.engine import program
from tests.engine.crew import DEADLINE_SECONDS, Crew, processor_seconds

from pannier.errors import StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.notices import Notice, NoticeKind
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobInspector, JobNotifier, JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_id, new_job
from pannier_testing.proxy import FaultProxy


class Server(Protocol):
    """A server of one's own."""

    def start(self) -> None:
        """Start it on what is on its disk."""

    def stop(self) -> None:
        """Stop it in good order."""


@frozen
class Site:
    """
    A server, and a place on it that nobody else uses.

    Attributes:
        server: The server.
        kill: Ends it by SIGKILL.
        url: The URL of the place, with one option at least.
        keeping_to_it: An option that makes the driver keep to the URL's address, where it would look for others.
    """

    server: Server
    kill: Callable[[], None]
    url: str
    keeping_to_it: str = ""


class Inspectable(JobStorageProvider, JobInspector, JobNotifier, Protocol):
    """What the storages here offer."""


@pytest.fixture(params=["postgres", "mongo"])
def site(request: pytest.FixtureRequest) -> Site:
    """A place on a server that may be killed, of each kind."""
    place = f"t{uuid4().hex}"
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres_server")
        return Site(postgres, postgres.kill, f"{postgres.url}?schema={place}")
    mongo = request.getfixturevalue("mongo_server")
    return Site(mongo, mongo.crash, f"{mongo.url}/{place}?appName=test", "&directConnection=true")


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def own(runner: asyncio.Runner, site: Site) -> Iterator[Inspectable]:
    """An open storage on that place."""
    storage: Inspectable = Plugins.installed().create_storage(StorageUrl(f"{site.url}&timeout=2"))  # type: ignore[assignment]
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def ids() -> Callable[[], UUID]:
    """Gives tracking ids, the same ones in each run."""
    rng = random.Random(0)
    return lambda: new_id(rng)


async def back(storage: JobStorageProvider) -> None:
    """Wait until the storage's server answers again."""
    while True:
        try:
            await storage.read_clock()
        except StorageUnavailableError:
            await asyncio.sleep(0.05)
        else:
            return


def test_what_was_acknowledged_survives_the_server_s_death(
    runner: asyncio.Runner, own: Inspectable, site: Site, ids: Callable[[], UUID]
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
            except StorageUnavailableError:
                await asyncio.sleep(0.05)
            else:
                answers_left -= has_died.is_set()

    async def kill() -> int:
        while len(acknowledged) < 50:  # noqa: ASYNC110  # as soon as the others have done so much
            await asyncio.sleep(0.01)
        await asyncio.to_thread(site.kill)
        before = len(acknowledged)
        has_died.set()
        await asyncio.to_thread(site.server.start)
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


def test_claims_and_settlements_survive_the_server_s_death(
    runner: asyncio.Runner, own: Inspectable, site: Site, ids: Callable[[], UUID]
) -> None:
    """A lease that was given stands after the restart, and so does an outcome (R57, R85)."""
    runner.run(own.store_jobs([new_job(ids()), new_job(ids())]))
    settled, leased = runner.run(own.claim_jobs(claim_of(limit=2))).jobs
    runner.run(own.settle_jobs([Settlement(settled.lease, Succeeded())], now=T0))
    site.kill()
    with pytest.raises(StorageUnavailableError):
        runner.run(own.get_job(settled.tracking_id))
    site.server.start()
    runner.run(back(own))

    assert runner.run(own.get_job(leased.tracking_id)) == leased
    assert runner.run(own.renew_leases([leased.lease], now=T0, lease_for=LEASE)) == frozenset()
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1, (QUEUE, JobStatus.RUNNING): 1}


def test_a_listener_outlives_the_server(
    runner: asyncio.Runner, own: Inspectable, site: Site, ids: Callable[[], UUID]
) -> None:
    """It connects anew by itself, says MISSED, and hears what is stored from then on (R113)."""

    async def play() -> list[Notice]:
        async with asyncio.timeout(DEADLINE_SECONDS), own.listen(frozenset({QUEUE})) as notices:
            await asyncio.to_thread(site.kill)
            await asyncio.to_thread(site.server.start)
            heard = [await anext(notices)]
            await own.store_jobs([new_job(ids())])
            return [*heard, await anext(notices)]

    missed, queued = runner.run(play())
    assert missed == Notice(NoticeKind.MISSED, QUEUE)
    assert (queued.kind, queued.queue_id) == (NoticeKind.QUEUED, QUEUE)


def test_a_server_that_is_down_for_long_is_waited_for(
    runner: asyncio.Runner, own: Inspectable, site: Site, ids: Callable[[], UUID]
) -> None:
    """Every call meanwhile fails within its timeout, thirty at once too, and those afterwards work (R109, R110)."""
    site.server.stop()

    async def play() -> Sequence[object]:
        return await asyncio.gather(*(own.store_jobs([new_job(ids())]) for _ in range(30)), return_exceptions=True)

    started = time.monotonic()
    answers = runner.run(play())
    taken = time.monotonic() - started
    site.server.start()
    runner.run(back(own))

    assert {type(answer) for answer in answers} == {StorageUnavailableError}
    assert taken < 10
    assert len(runner.run(own.store_jobs([new_job(ids())]))) == 1
    assert runner.run(own.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


@pytest.fixture
def crew(site: Site, tmp_path: Path) -> Iterator[Crew]:
    """Workers to be hired, on that place."""
    crew = Crew(f"{site.url}&timeout=1", tmp_path)
    yield crew
    crew.end()


def test_two_workers_lose_nothing_when_one_of_them_and_then_the_server_is_killed(crew: Crew, site: Site) -> None:
    """Each job is done, by whoever is alive; what was not in progress at a kill is done once (R88, I1-I6)."""
    total = 120
    sleeps = crew.queue(*(program.Sleep(0.1, crew.journal) for _ in range(total)))
    first, _ = crew.hire(), crew.hire()
    crew.wait_for("end", 20)
    first.send_signal(signal.SIGKILL)
    crew.hire()
    crew.wait_for("end", 50)
    site.kill()
    site.server.start()

    assert crew.ended(sleeps) == {JobStatus.SUCCEEDED: total}
    in_progress = 4 + 2 * 4  # what one worker held when it was killed, and two when the server was
    assert total <= crew.count("end") <= total + in_progress
    assert crew.count("start") <= total + in_progress


def test_a_worker_whose_server_is_down_hardly_uses_the_processor(crew: Crew, site: Site) -> None:
    """Less than a twentieth of one, while it tries to claim, renew, settle and listen again and again (R113)."""
    sleeps = crew.queue(*(program.Sleep(0.1, crew.journal) for _ in range(40)))
    worker = crew.hire()
    crew.wait_for("end", 8)
    site.server.stop()
    try:
        time.sleep(2)  # a lease: what ran and waited has been given up
        before, began = processor_seconds(worker.pid), time.monotonic()
        time.sleep(8)
        share = (processor_seconds(worker.pid) - before) / (time.monotonic() - began)
    finally:
        site.server.start()

    assert worker.poll() is None
    assert share < 0.05
    crew.wait_for("end", len(sleeps))


def test_a_worker_in_a_silence_stops_in_time_and_goes_on_after_it(site: Site, tmp_path: Path) -> None:
    """Handlers are stopped before their leases end, none runs twice at once, and every job is done (R113, E6)."""
    with FaultProxy(f"{site.url}{site.keeping_to_it}", tmp_path) as proxy:
        crew, straight = Crew(f"{proxy.url}&timeout=0.5", tmp_path), Crew(site.url, tmp_path)
        long = straight.queue(*(program.Sleep(5, crew.journal) for _ in range(2)))
        short = straight.queue(*(program.Note(number, 0.01, crew.journal) for number in range(6)))
        try:
            crew.hire()
            crew.wait_for("start", 2)
            proxy.set(is_silent=True)
            crew.wait_for("stopped:", 2)
            proxy.cut()
            proxy.heal()
            outcomes = straight.ended([*long, *short])
        finally:
            crew.end()

    assert outcomes == {JobStatus.SUCCEEDED: len(long) + len(short)}
    assert crew.count("start") == 4
    assert crew.count("end") == 2
