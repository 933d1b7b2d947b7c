"""
A change of the primary, as far as one node can show it.

Commands fail as they do on one that steps down; and it steps down, refuses writes, and is the primary again.

On a real step-down the server tells the driver of each new state at once. The stand-in does not say that it is the
primary again, so that the driver asks when its heartbeat is due: every half second here.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

import pytest
from pymongo import MongoClient
from tests.engine import program
from tests.engine.crew import DEADLINE_SECONDS

from pannier import JobQueues
from pannier.claims import Claimed
from pannier.errors import StorageRefusedError, StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import Cancellation, JobStatus, Lease
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobInspector
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.mongo import MongoServer

    from pannier_mongo.provider import MongoStorage

NewId: TypeAlias = Callable[[], UUID]
Answer = TypeVar("Answer")

NOT_PRIMARY, STEPPED_DOWN, SHUTTING_DOWN = 10107, 189, 91

OPTIONS = "timeout=3&heartbeatFrequencyMS=500"

AWAY_SECONDS = 2
"""How long the primary is none."""


@pytest.fixture
def failing(
    runner: asyncio.Runner, plugins: Plugins, failing_mongo_server: "MongoServer", database: str
) -> Iterator["MongoStorage"]:
    """An open storage on a server that fails when it is told to."""
    storage: MongoStorage = plugins.create_storage(StorageUrl(f"{failing_mongo_server.url}/{database}?{OPTIONS}"))  # type: ignore[assignment]
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


def step_down(server: "MongoServer") -> None:
    """Let the primary be a secondary for a while."""
    with MongoClient[Mapping[str, object]](server.url) as client:
        client.admin.command({"replSetStepDown": AWAY_SECONDS, "force": True})


async def repeated(call: Callable[[], Coroutine[object, object, Answer]]) -> tuple[Answer, int]:
    """Call until the storage answers; return the answer, and how often it did not."""
    for failures in itertools.count():
        try:
            return await call(), failures
        except StorageUnavailableError:
            await asyncio.sleep(0.05)
    raise AssertionError


def test_every_verb_is_refused_by_a_primary_that_is_none_and_works_when_it_is_back(
    runner: asyncio.Runner, failing: "MongoStorage", failing_mongo_server: "MongoServer", ids: NewId
) -> None:
    """Whoever repeats a write gets one effect of it."""
    runner.run(failing.store_jobs([new_job(ids()) for _ in range(2)]))
    held, waiting = runner.run(failing.claim_jobs(claim_of(limit=1))).jobs[0], new_job(ids(), key="k")
    step_down(failing_mongo_server)

    async def play() -> tuple[tuple[list[UUID], int], tuple[Claimed, int], tuple[frozenset[Lease], int]]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.gather(
                repeated(lambda: failing.store_jobs([waiting])),
                repeated(lambda: failing.claim_jobs(claim_of(limit=1))),
                repeated(lambda: failing.settle_jobs([Settlement(held.lease, Succeeded())], now=T0)),
            )

    (stored, refused), (claimed, refused_too), (lost, _) = runner.run(play())
    assert refused + refused_too > 0
    assert stored == [waiting.tracking_id]
    assert len(claimed.jobs) == 1
    assert lost == frozenset()
    assert runner.run(failing.count_jobs(JobFilter())) == {
        (QUEUE, JobStatus.PENDING): 1,
        (QUEUE, JobStatus.RUNNING): 1,
        (QUEUE, JobStatus.SUCCEEDED): 1,
    }


def test_a_worker_outlives_a_step_down(failing_mongo_server: "MongoServer", database: str, tmp_path: "Path") -> None:
    """It goes on when there is a primary again, and does each job once."""
    journal, total = tmp_path / "journal", 60
    jobs = JobQueues(f"{failing_mongo_server.url}/{database}?{OPTIONS}", handlers=program.jobs.registry)

    async def succeeded() -> int:
        assert isinstance(jobs.storage, JobInspector)
        counts = await jobs.storage.count_jobs(JobFilter(statuses=frozenset({JobStatus.SUCCEEDED})))
        return sum(counts.values())

    async def play() -> int:
        async with asyncio.timeout(DEADLINE_SECONDS), jobs.worker():
            await jobs.queue_jobs([program.Note(number, 0.05, str(journal)) for number in range(total)])
            while not (done := await succeeded()):  # noqa: ASYNC110  # the storage has no event to wait for
                await asyncio.sleep(0.01)
            await asyncio.to_thread(step_down, failing_mongo_server)
            while (await repeated(succeeded))[0] < total:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return done

    assert asyncio.run(play()) < total
    ran = [line.split()[0] for line in journal.read_text().splitlines()]
    assert sorted(ran) == sorted(f"note:{number}" for number in range(total))
