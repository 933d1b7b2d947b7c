"""Storing and settling in the caller's own transaction (R9), and what its locks do to others (R39)."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure

from pannier.errors import LeaseLostError, UnstorableError, UsageError
from pannier.inspection import JobFilter
from pannier.purging import StaleJobs
from pannier.records import JobStatus, Lease
from pannier.settlements import Release, Settlement, Succeeded
from pannier_testing.builders import LEASE, QUEUE, SECOND, T0, claim_of, new_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase

    from pannier_mongo.provider import MongoStorage

    Database: TypeAlias = AsyncDatabase[Mapping[str, object]]

NewId: TypeAlias = Callable[[], UUID]


@pytest.fixture
def session(runner: asyncio.Runner, other: "Database") -> Iterator["AsyncClientSession"]:
    """A session of the other program with an open transaction."""
    session = runner.run(started(other))
    yield session
    runner.run(session.end_session())


async def started(other: "Database") -> "AsyncClientSession":
    session = other.client.start_session()
    await session.start_transaction()
    return session


def test_a_job_stored_in_a_transaction_is_there_from_the_commit_on(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """Nobody sees it before, and an expected duplicate leaves the transaction usable."""
    job, keyed = new_job(ids()), new_job(ids(), key="k")
    assert runner.run(storage.store_jobs_in(session, [job, keyed])) == [job.tracking_id, keyed.tracking_id]
    assert runner.run(storage.store_jobs_in(session, [new_job(ids(), key="k"), job])) == [
        keyed.tracking_id,
        job.tracking_id,
    ]
    assert runner.run(storage.get_job(job.tracking_id)) is None
    runner.run(session.commit_transaction())

    assert runner.run(storage.get_job(job.tracking_id)) == job
    assert len(runner.run(storage.claim_jobs(claim_of(limit=9))).jobs) == 2


def test_a_plain_insert_of_a_duplicate_would_end_the_transaction(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", session: "AsyncClientSession", ids: NewId
) -> None:
    """That is why jobs are upserted in it: by an upsert a caller's work before and after a duplicate stands."""
    keyed = new_job(ids(), key="k")
    runner.run(storage.store_jobs([keyed]))
    runner.run(other["effects"].insert_one({"what": "before"}, session=session))
    assert runner.run(storage.store_jobs_in(session, [new_job(ids(), key="k")])) == [keyed.tracking_id]
    runner.run(other["effects"].insert_one({"what": "after"}, session=session))
    runner.run(session.commit_transaction())
    assert runner.run(other["effects"].count_documents({})) == 2
    runner.run(other["effects"].drop())

    runner.run(session.start_transaction())
    with pytest.raises(DuplicateKeyError):
        runner.run(other["pannier_jobs"].insert_one({"queue_id": QUEUE, "idempotency_key": "k"}, session=session))
    with pytest.raises(OperationFailure, match="transaction"):
        runner.run(session.commit_transaction())


def test_a_rollback_leaves_nothing(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """The jobs go with the rest of the transaction, and the key is free again."""
    runner.run(storage.store_jobs_in(session, [new_job(ids(), key="k")]))
    runner.run(session.abort_transaction())

    assert runner.run(storage.count_jobs(JobFilter())) == {}
    again = new_job(ids(), key="k")
    assert runner.run(storage.store_jobs([again])) == [again.tracking_id]


def test_a_settlement_commits_with_the_caller_s_effects(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", session: "AsyncClientSession", ids: NewId
) -> None:
    """Both stand, or neither."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(other["effects"].insert_one({"what": "paid"}, session=session))
    runner.run(storage.settle_jobs_in(session, [Settlement(job.lease, Succeeded())], now=T0))
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 1}
    runner.run(session.commit_transaction())

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1}
    assert runner.run(other["effects"].count_documents({})) == 1
    runner.run(other["effects"].drop())


def test_a_lost_lease_undoes_the_caller_s_effects(
    runner: asyncio.Runner, storage: "MongoStorage", other: "Database", ids: NewId
) -> None:
    """The error leaves the caller's block, whose transaction rolls back: an effect is had once at most."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    good, stale = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs
    batch = [Settlement(good.lease, Succeeded()), Settlement(Lease(stale.tracking_id, 9), Succeeded())]

    async def handle(session: "AsyncClientSession") -> None:
        await other["effects"].insert_one({"what": "paid"}, session=session)
        await storage.settle_jobs_in(session, batch, now=T0)

    async def play() -> None:
        async with other.client.start_session() as session:
            await session.with_transaction(handle)

    with pytest.raises(LeaseLostError) as caught:
        runner.run(play())

    assert caught.value.tracking_ids == (stale.tracking_id,)
    assert runner.run(other["effects"].count_documents({})) == 0
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 2}


def test_a_lease_that_is_being_settled_is_neither_renewed_nor_lost(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """The rest of the batch is renewed without waiting (R39)."""
    runner.run(storage.store_jobs([new_job(ids()) for _ in range(5)]))
    held, *rest = runner.run(storage.claim_jobs(claim_of(limit=5))).jobs
    runner.run(storage.settle_jobs_in(session, [Settlement(held.lease, Succeeded())], now=T0))
    stale = Lease(rest[0].tracking_id, 7)
    leases = [job.lease for job in (held, *rest)]
    now = T0 + SECOND

    assert runner.run(storage.renew_leases([*leases, stale], now=now, lease_for=LEASE)) == {stale}
    ends = [runner.run(storage.get_job(job.tracking_id)) for job in (held, *rest)]
    assert [job and job.dequeue_after for job in ends] == [T0 + LEASE, *[now + LEASE] * 4]
    runner.run(session.abort_transaction())


def test_claims_and_purges_pass_over_what_is_being_settled(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """A lapsed lease that an open transaction holds is taken when that has ended, and the rest at once (R35)."""
    runner.run(storage.store_jobs([new_job(ids(), expire_on=T0 + LEASE + LEASE) for _ in range(3)]))
    held, *rest = runner.run(storage.claim_jobs(claim_of(limit=3))).jobs
    runner.run(storage.settle_jobs_in(session, [Settlement(held.lease, Release())], now=T0))
    now = T0 + LEASE
    claimed = runner.run(storage.claim_jobs(claim_of(limit=9, now=now)))

    assert {job.tracking_id for job in claimed.jobs} == {job.tracking_id for job in rest}
    assert claimed.next_due == now
    stale = StaleJobs(now=now + LEASE, keep={})
    assert runner.run(storage.purge_stale_jobs(stale)).expired == 2
    runner.run(session.abort_transaction())
    assert runner.run(storage.purge_stale_jobs(stale)).expired == 1


def test_what_can_t_be_stored_leaves_the_transaction_usable(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """It is refused before anything is sent."""
    job = new_job(ids())
    with pytest.raises(UnstorableError):
        runner.run(storage.store_jobs_in(session, [job, new_job(ids(), key="\ud800")]))
    runner.run(storage.store_jobs_in(session, [job]))
    runner.run(session.commit_transaction())

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


def test_a_session_without_a_transaction_is_refused(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """What is written would stand at once, whatever becomes of the caller's work."""
    runner.run(session.abort_transaction())
    with pytest.raises(UsageError, match="no open transaction"):
        runner.run(storage.store_jobs_in(session, [new_job(ids())]))
    with pytest.raises(TypeError, match="AsyncClientSession"):
        runner.run(storage.store_jobs_in(object(), [new_job(ids())]))  # type: ignore[arg-type]
    assert isinstance(session.client, AsyncMongoClient)


def test_a_key_that_an_open_transaction_is_storing_is_waited_for_by_its_like_alone(
    runner: asyncio.Runner, storage: "MongoStorage", session: "AsyncClientSession", ids: NewId
) -> None:
    """A job without a key never waits for a stranger's transaction (R122)."""
    keyed = new_job(ids(), key="k")
    runner.run(storage.store_jobs_in(session, [keyed]))
    jobs = [new_job(ids()) for _ in range(3)]

    assert runner.run(storage.store_jobs(jobs[:1])) == [jobs[0].tracking_id]
    assert runner.run(storage.store_jobs(jobs[1:])) == [jobs[1].tracking_id, jobs[2].tracking_id]
    runner.run(session.commit_transaction())
    assert runner.run(storage.store_jobs([new_job(ids(), key="k")])) == [keyed.tracking_id]
