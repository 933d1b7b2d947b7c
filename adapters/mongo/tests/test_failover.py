"""
A change of the primary, as far as one node can show it: commands fail as they do on one that steps down.

On a real step-down the server tells the driver of its new state at once. The stand-in's is not new, so that the driver
asks again when its heartbeat is due: every half second here.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest
from pymongo import MongoClient

from pannier.errors import StorageRefusedError, StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import Cancellation, JobStatus
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from tests.servers.mongo import MongoServer

    from pannier_mongo.provider import MongoStorage

NewId: TypeAlias = Callable[[], UUID]

NOT_PRIMARY, STEPPED_DOWN, SHUTTING_DOWN = 10107, 189, 91


@pytest.fixture
def failing(
    runner: asyncio.Runner, plugins: Plugins, failing_mongo_server: "MongoServer", database: str
) -> Iterator["MongoStorage"]:
    """An open storage on a server that fails when it is told to."""
    options = "timeout=3&heartbeatFrequencyMS=500"
    storage: MongoStorage = plugins.create_storage(StorageUrl(f"{failing_mongo_server.url}/{database}?{options}"))  # type: ignore[assignment]
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@contextmanager
def failure(server: "MongoServer", command: str, mode: object, error: Mapping[str, object]) -> Iterator[None]:
    """Let a command fail during the block."""
    with MongoClient[Mapping[str, object]](server.url) as client:
        data = {"failCommands": [command], "errorLabels": ["RetryableWriteError"], **error}
        client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        yield
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize("code", [NOT_PRIMARY, STEPPED_DOWN, SHUTTING_DOWN])
def test_writes_of_one_job_and_reads_outlive_a_change_of_the_primary(
    runner: asyncio.Runner, failing: "MongoStorage", failing_mongo_server: "MongoServer", ids: NewId, code: int
) -> None:
    """The driver repeats them once, and the server knows a repeat: the caller sees nothing."""
    job = new_job(ids(), key="k")
    once, error = {"times": 1}, {"errorCode": code}
    with failure(failing_mongo_server, "insert", once, error):
        assert runner.run(failing.store_jobs([job])) == [job.tracking_id]
    with failure(failing_mongo_server, "find", once, error):
        assert runner.run(failing.get_job(job.tracking_id)) == job
    with failure(failing_mongo_server, "update", once, error):
        assert runner.run(failing.cancel_job(job.tracking_id, now=T0)) is Cancellation.CANCELLED

    assert runner.run(failing.count_jobs(JobFilter())) == {(QUEUE, JobStatus.CANCELLED): 1}


def test_claims_and_settlements_during_one_can_be_repeated(
    runner: asyncio.Runner, failing: "MongoStorage", failing_mongo_server: "MongoServer", ids: NewId
) -> None:
    """The driver repeats no write to many documents; whoever does gets one effect."""
    runner.run(failing.store_jobs([new_job(ids()) for _ in range(3)]))
    with (
        failure(failing_mongo_server, "update", {"times": 1}, {"errorCode": STEPPED_DOWN}),
        pytest.raises(StorageUnavailableError),
    ):
        runner.run(failing.claim_jobs(claim_of(limit=3)))
    claimed = runner.run(failing.claim_jobs(claim_of(limit=3, now=T0 + LEASE))).jobs
    settlements = [Settlement(job.lease, Succeeded()) for job in claimed]
    with (
        failure(failing_mongo_server, "update", {"times": 1}, {"errorCode": STEPPED_DOWN}),
        pytest.raises(StorageUnavailableError),
    ):
        runner.run(failing.settle_jobs(settlements, now=T0 + LEASE))

    assert len(claimed) == 3
    assert runner.run(failing.settle_jobs(settlements, now=T0 + LEASE)) == frozenset()
    assert runner.run(failing.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 3}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"errorCode": NOT_PRIMARY}, StorageUnavailableError),
        ({"closeConnection": True}, StorageUnavailableError),
        ({"writeConcernError": {"code": SHUTTING_DOWN, "errmsg": "x"}}, StorageUnavailableError),
        ({"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}, StorageUnavailableError),
        ({"errorCode": 13, "errorLabels": []}, StorageRefusedError),
        ({"errorCode": 14031, "errorLabels": []}, StorageRefusedError),
    ],
    ids=["no primary", "cut", "shutting down", "no majority", "no right", "no disk"],
)
def test_what_does_not_pass_is_an_error_of_its_kind_and_can_be_repeated(
    runner: asyncio.Runner,
    failing: "MongoStorage",
    failing_mongo_server: "MongoServer",
    ids: NewId,
    error: Mapping[str, object],
    kind: type[Exception],
) -> None:
    """What no majority acknowledged is not answered for; whether it is there or not, a repeat stores it once."""
    jobs = [new_job(ids()), new_job(ids(), key="k")]
    storing: list[Callable[[], Coroutine[object, object, list[UUID]]]] = [
        lambda: failing.store_jobs(jobs[:1]),
        lambda: failing.store_jobs(jobs),
    ]
    for store in storing:
        with failure(failing_mongo_server, "insert", "alwaysOn", error), pytest.raises(kind):
            runner.run(store())

    assert runner.run(failing.store_jobs(jobs)) == [job.tracking_id for job in jobs]
    assert runner.run(failing.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 2}
