"""SQLAlchemy's transactions, which are the driver's own (R9)."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from pannier.errors import LeaseLostError
from pannier.inspection import JobFilter
from pannier.records import JobStatus, Lease
from pannier.settlements import Settlement, Succeeded
from pannier_testing.builders import QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from pannier_postgres.provider import PostgresStorage

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.ext.asyncio")

NewId = Callable[[], UUID]


@pytest.fixture
def engine(runner: asyncio.Runner, postgres_url: str) -> Iterator[Any]:
    """An engine on asyncpg."""
    engine = orm.create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    yield engine
    runner.run(engine.dispose())


def test_jobs_are_stored_in_the_transaction_of_a_connection(
    runner: asyncio.Runner, storage: "PostgresStorage", engine: Any, ids: NewId
) -> None:
    """They are there from the commit on, be it the transaction's first statement or not."""
    first, second = new_job(ids(), key="k"), new_job(ids())

    async def play() -> list[UUID]:
        async with engine.begin() as connection:
            await storage.store_jobs_in(connection, [first])
            await connection.execute(sqlalchemy.text("SELECT 1"))
            standing = await storage.store_jobs_in(connection, [second, new_job(ids(), key="k")])
            assert await storage.count_jobs(JobFilter()) == {}
        return standing

    assert runner.run(play()) == [second.tracking_id, first.tracking_id]
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 2}


def test_a_rollback_of_a_connection_leaves_nothing(
    runner: asyncio.Runner, storage: "PostgresStorage", engine: Any, ids: NewId
) -> None:
    """SQLAlchemy begins a transaction with the first statement, also where that is ours."""

    async def play() -> None:
        async with engine.connect() as connection:
            await storage.store_jobs_in(connection, [new_job(ids())])
            await connection.rollback()

    runner.run(play())
    assert runner.run(storage.count_jobs(JobFilter())) == {}


def test_a_session_commits_jobs_with_its_own_changes(
    runner: asyncio.Runner, storage: "PostgresStorage", engine: Any, ids: NewId
) -> None:
    """A session's connection is the one that its transaction is open on."""
    job = new_job(ids())

    async def play() -> None:
        async with orm.AsyncSession(engine) as session, session.begin():
            await storage.store_jobs_in(await session.connection(), [job])

    runner.run(play())
    assert runner.run(storage.get_job(job.tracking_id)) == job


def test_a_lost_lease_rolls_a_session_back(
    runner: asyncio.Runner, storage: "PostgresStorage", engine: Any, ids: NewId
) -> None:
    """The error leaves the block, and nothing of the transaction stands."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    kept = new_job(ids())

    async def play(lease: Lease) -> None:
        async with orm.AsyncSession(engine) as session, session.begin():
            connection = await session.connection()
            await storage.store_jobs_in(connection, [kept])
            await storage.settle_jobs_in(connection, [Settlement(lease, Succeeded())], now=T0)

    with pytest.raises(LeaseLostError):
        runner.run(play(Lease(job.tracking_id, job.fence + 1)))
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 1}
    runner.run(play(job.lease))
    assert runner.run(storage.count_jobs(JobFilter())) == {
        (QUEUE, JobStatus.PENDING): 1,
        (QUEUE, JobStatus.SUCCEEDED): 1,
    }


@pytest.mark.parametrize("given", ["engine", "session"])
def test_what_is_no_connection_is_refused_with_the_remedy(
    runner: asyncio.Runner, storage: "PostgresStorage", engine: Any, ids: NewId, given: str
) -> None:
    """An engine has no transaction, and a session's is on its connection."""
    wrong = {"engine": engine, "session": orm.AsyncSession(engine)}[given]
    with pytest.raises(TypeError, match=r"await session\.connection\(\)"):
        runner.run(storage.store_jobs_in(wrong, [new_job(ids())]))
