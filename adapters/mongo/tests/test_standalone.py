"""A standalone server: what it withholds, and that everything else works without."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest
from tests.engine import program

from pannier import JobQueues
from pannier.errors import NotSupportedError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job
from pannier_testing.proxy import FaultProxy
from pannier_testing.rules import Need
from pannier_testing.runner import measure
from pannier_testing.subject import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.mongo import MongoServer

    from pannier_mongo.provider import MongoStorage

NewId: TypeAlias = Callable[[], UUID]


@pytest.fixture
def alone(
    runner: asyncio.Runner, plugins: Plugins, standalone_mongo_server: "MongoServer", database: str
) -> Iterator["MongoStorage"]:
    """An open storage on a standalone server."""
    storage: MongoStorage = plugins.create_storage(StorageUrl(f"{standalone_mongo_server.url}/{database}?timeout=20"))  # type: ignore[assignment]
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


def test_it_says_what_it_withholds(runner: asyncio.Runner, alone: "MongoStorage", ids: NewId) -> None:
    """By its capabilities, and by a clear error to whoever asks all the same."""
    assert alone.capabilities.withheld == {"notify", "transactions"}
    assert not alone.capabilities.atomic_batches
    with pytest.raises(NotSupportedError, match="standalone server, which has no change streams"):
        alone.listen(frozenset({QUEUE}))
    with pytest.raises(NotSupportedError, match="standalone server, which has no transactions"):
        runner.run(alone.store_jobs_in(None, [new_job(ids())]))  # type: ignore[arg-type]
    with pytest.raises(NotSupportedError, match="standalone server, which has no transactions"):
        runner.run(alone.settle_jobs_in(None, [], now=T0))  # type: ignore[arg-type]


def test_a_verdict_on_it_lacks_two_add_ons_and_nothing_else(
    mongo_url: str, standalone_mongo_server: "MongoServer"
) -> None:
    """The conformance suite asks it for all that it asks a replica set for, but for what it withholds."""
    member, alone = (measure(subject_on(url)).offers for url in (mongo_url, standalone_mongo_server.url))

    assert member - alone == {Need.NOTIFY, Need.TRANSACTIONS}
    assert alone <= member
    assert {Need.DURABLE, Need.SHARED, Need.NETWORK, Need.INSPECT, Need.RESULTS} <= alone


def subject_on(server: str) -> Subject:
    return Subject(label=server, url_for=lambda place: f"{server}/{place.namespace}?timeout=20")


def test_a_job_lives_its_whole_life_there(runner: asyncio.Runner, alone: "MongoStorage", ids: NewId) -> None:
    """Stored in a batch with duplicates, claimed, renewed, lapsed, claimed anew and settled."""
    jobs = [new_job(ids(), key=key) for key in ("a", "b", "a")]
    assert runner.run(alone.store_jobs(jobs)) == [jobs[0].tracking_id, jobs[1].tracking_id, jobs[0].tracking_id]
    first = runner.run(alone.claim_jobs(claim_of(limit=9))).jobs
    renewed = runner.run(alone.renew_leases([job.lease for job in first], now=T0, lease_for=2 * LEASE))
    assert renewed == frozenset()
    again = runner.run(alone.claim_jobs(claim_of(limit=9, now=T0 + 2 * LEASE))).jobs
    assert [job.lapses for job in again] == [1, 1]

    settlements = [Settlement(job.lease, Succeeded()) for job in (*first, *again)]
    assert runner.run(alone.settle_jobs(settlements, now=T0)) == {job.lease for job in first}
    assert runner.run(alone.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 2}


def test_calls_whose_connections_are_cut_do_not_keep_each_other_from_the_server(
    runner: asyncio.Runner, plugins: Plugins, standalone_mongo_server: "MongoServer", database: str,
    ids: NewId, tmp_path: "Path",
) -> None:  # fmt: skip
    """Each is told so, or answered; all of them are long before the timeout."""
    url = f"{standalone_mongo_server.url}/{database}?directConnection=true&timeout=30"

    async def ten_calls(storage: JobStorageProvider) -> None:
        calls = (storage.store_jobs([new_job(ids()), new_job(ids())]) for _ in range(10))
        await asyncio.gather(*calls, return_exceptions=True)

    async def play() -> None:
        with FaultProxy(url, tmp_path) as proxy:
            storage = plugins.create_storage(StorageUrl(proxy.url))
            await storage.open()
            async with asyncio.timeout(15):
                for _ in range(3):
                    calls = asyncio.create_task(ten_calls(storage))
                    await asyncio.sleep(0)
                    proxy.cut()
                    await calls
                    await ten_calls(storage)
            await storage.close()

    runner.run(play())


def test_a_worker_there_looks_for_jobs(standalone_mongo_server: "MongoServer", database: str, tmp_path: "Path") -> None:
    """Without change streams it finds within a second what another process has queued."""
    url = f"{standalone_mongo_server.url}/{database}"
    here, there = (JobQueues(url, handlers=program.jobs.registry) for _ in range(2))

    async def play() -> str:
        async with here.worker(), there:
            tracking_id = await there.queue_job(program.Innocent(str(tmp_path / "journal")))
            return await there.tracker(program.Innocent).wait_for_result(tracking_id, timeout=timedelta(seconds=30))

    assert asyncio.run(play()) == "done"
