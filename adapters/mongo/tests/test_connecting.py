"""Connecting: what is said when it fails, how long that takes, and how an instance mends itself (R107, R109, R110)."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pymongo
import pytest
from pymongo import ReadPreference
from tests.servers import mongo
from tests.servers.old_mongo import old_server

from pannier.errors import ConfigurationError, PannierError, StorageRefusedError, StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import Cancellation, JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_mongo._connection import connect
from pannier_mongo.settings import settings_of
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job
from pannier_testing.proxy import FaultProxy

if TYPE_CHECKING:
    from pannier_mongo.provider import MongoStorage

NewId: TypeAlias = Callable[[], UUID]

PASSWORD = "s3cret"  # noqa: S105  # of a server that lives for one test


@pytest.fixture
def proxy(url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the server. Without directConnection the driver would ask for the members, and go round it."""
    with FaultProxy(f"{url}&directConnection=true", tmp_path) as proxy:
        yield proxy


def opened(runner: asyncio.Runner, plugins: Plugins, url: str) -> "MongoStorage":
    """Return an open storage."""
    storage: MongoStorage = plugins.create_storage(StorageUrl(url))  # type: ignore[assignment]
    runner.run(storage.open())
    return storage


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("mongodb://u:s3cret@127.0.0.1:x/app", ConfigurationError, "check hosts and options"),
        ("mongodb://u:s3cret@127.0.0.1/app?maxPoolSize=many", ConfigurationError, "check hosts and options"),
        ("mongodb://u:s3cret@127.0.0.1/app?tls=true&tlsCAFile=/nowhere", ConfigurationError, "check hosts and options"),
        ("mongodb://u:s3cret@127.0.0.1:1/app?timeout=0.3", StorageUnavailableError, "check that it runs"),
    ],
)
def test_a_wrong_url_is_an_error_with_the_remedy_and_without_the_password(
    runner: asyncio.Runner, plugins: Plugins, url: str, error: type[PannierError], words: str
) -> None:
    """Whoever opens a storage wrongly learns what to correct, and soon."""
    started = time.monotonic()
    with pytest.raises(error, match=words) as caught:
        opened(runner, plugins, url)

    assert "s3cret" not in f"{caught.value}{caught.value!r}"
    assert time.monotonic() - started < 10


def test_what_the_url_says_is_not_overruled() -> None:
    """The adapter's defaults for the driver are those of whoever says nothing."""
    url = "mongodb://localhost/app?appName=shop&serverSelectionTimeoutMS=100&maxConnecting=3"
    options = connect(settings_of(StorageUrl(url))).options

    assert options.pool_options.appname == "shop"
    assert options.server_selection_timeout == 0.1
    assert options.pool_options.connect_timeout == 5
    assert options.pool_options.max_connecting == 3


@pytest.mark.parametrize(
    ("wire_version", "words"),
    [(8, "must be 5.0 or newer"), (12, "older than MongoDB 5.0; upgrade")],
    ids=["4.2", "4.9"],
)
def test_a_server_that_is_too_old_is_refused(
    runner: asyncio.Runner, plugins: Plugins, wire_version: int, words: str
) -> None:
    """By the driver or by the adapter, before anything is made; the error says what to upgrade."""
    with old_server(wire_version) as server, pytest.raises(StorageRefusedError, match=words):
        opened(runner, plugins, f"{server.url}/app")


def test_a_wrong_password_is_refused(runner: asyncio.Runner, plugins: Plugins) -> None:
    """The error names what to correct; with the right one the storage opens."""
    with mongo.running_server() as server:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(server.url)
        client.admin.command("createUser", "clerk", pwd=PASSWORD, roles=["root"])
        client.close()
        server.stop()
        server.start(mongo.AUTH)
        place = server.url.removeprefix("mongodb://")
        with pytest.raises(StorageRefusedError, match="refuses the user or the password") as caught:
            opened(runner, plugins, f"mongodb://clerk:wr0ng@{place}/app?authSource=admin&timeout=20")
        storage = opened(runner, plugins, f"mongodb://clerk:{PASSWORD}@{place}/app?authSource=admin&timeout=20")
        counts = runner.run(storage.count_jobs(JobFilter()))
        runner.run(storage.close())

    assert "wr0ng" not in f"{caught.value}{caught.value!r}"
    assert counts == {}


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy
) -> None:
    """A packet filter that swallows everything costs one timeout, not a minute (R113)."""
    proxy.set(is_silent=True)
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        opened(runner, plugins, f"{proxy.url}&timeout=0.5")

    assert time.monotonic() - started < 10


def test_a_call_in_a_silence_is_given_up_and_the_next_one_after_it_works(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """The instance mends itself (R110, R113)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=3")
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    proxy.set(is_silent=True)
    with pytest.raises(StorageUnavailableError):
        runner.run(storage.store_jobs([new_job(ids())]))
    proxy.cut()
    proxy.heal()

    assert runner.run(storage.get_job(job.tracking_id)) == job
    runner.run(storage.close())


def test_closing_in_a_silence_takes_no_longer_than_a_call(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """The driver's goodbye waits ten seconds for a server that is gone: a service would be killed meanwhile (R113)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=0.5")
    runner.run(storage.get_job(ids()))
    proxy.set(is_silent=True)
    started = time.monotonic()

    runner.run(storage.close())

    assert time.monotonic() - started < 5


@pytest.mark.parametrize("fault", ["reset_after_sent", "reset_after_received"])
def test_a_call_whose_question_or_answer_is_lost_can_be_repeated(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId, fault: str
) -> None:
    """Whether the first call happened or not, the repeat leaves one effect (R110, R111)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=2")
    first, second = new_job(ids()), new_job(ids(), key="k")
    runner.run(storage.store_jobs([first]))
    proxy.set(**{fault: 0})
    with pytest.raises(StorageUnavailableError):
        runner.run(storage.store_jobs([second]))
    with pytest.raises(StorageUnavailableError):
        runner.run(storage.cancel_job(first.tracking_id, now=T0))
    proxy.heal()

    assert runner.run(storage.store_jobs([second])) == [second.tracking_id]
    assert runner.run(storage.cancel_job(first.tracking_id, now=T0)) is Cancellation.CANCELLED
    counts = runner.run(storage.count_jobs(JobFilter()))
    assert counts == {(QUEUE, JobStatus.PENDING): 1, (QUEUE, JobStatus.CANCELLED): 1}
    runner.run(storage.close())


def test_a_claim_whose_answer_is_lost_comes_back_after_its_lease(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """No job is lost, and none is given out twice meanwhile (R112)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=2")
    jobs = [new_job(ids()) for _ in range(3)]
    runner.run(storage.store_jobs(jobs))
    proxy.set(reset_after_received=0)
    with pytest.raises(StorageUnavailableError):
        runner.run(storage.claim_jobs(claim_of(limit=3)))
    proxy.heal()
    now = T0 + LEASE

    taken = runner.run(storage.claim_jobs(claim_of(limit=3, now=now))).jobs
    assert {job.tracking_id for job in taken} == {job.tracking_id for job in jobs}
    runner.run(storage.close())


def test_a_cancelled_call_leaves_nothing_behind(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """Whoever is cancelled in the middle of a transaction locks nobody out (R36, R94)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=20")
    jobs = [new_job(ids()) for _ in range(4)]
    runner.run(storage.store_jobs(jobs))
    claimed = runner.run(storage.claim_jobs(claim_of(limit=4))).jobs
    settlements = [Settlement(job.lease, Succeeded()) for job in claimed]

    async def interrupted(pause: float) -> None:
        settling = asyncio.create_task(storage.settle_jobs(settlements, now=T0))
        await asyncio.wait([settling], timeout=pause)
        settling.cancel()
        await asyncio.wait([settling])

    proxy.set(latency=0.02)
    for tenths in range(10):
        runner.run(interrupted(tenths / 50))
    proxy.heal()

    assert runner.run(storage.settle_jobs(settlements, now=T0)) == frozenset()
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 4}
    runner.run(storage.close())


def test_closing_waits_for_no_server_that_is_gone(
    runner: asyncio.Runner, plugins: Plugins, url: str, tmp_path: Path
) -> None:
    """close() tells the server that its sessions end, and does not look for it for as long as a call may take."""
    with FaultProxy(f"{url}&directConnection=true", tmp_path) as proxy:
        storage = opened(runner, plugins, f"{proxy.url}&timeout=60")
    runner.run(asyncio.wait_for(until_gone(storage), 60))

    runner.run(asyncio.wait_for(storage.close(), 20))


async def until_gone(storage: "MongoStorage") -> None:
    """Wait until the driver has noticed by itself; a call that fails would have it forget the sessions."""
    assert storage._opened is not None
    client = storage._opened.store.client
    while client.topology_description.has_readable_server(ReadPreference.PRIMARY):  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.05)
