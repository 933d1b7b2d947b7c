"""Storing and settling in the caller's own transaction (R9)."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from pannier.errors import LeaseLostError, StorageBusyError, StorageConflictError, UnstorableError, UsageError
from pannier.inspection import JobFilter
from pannier.notices import Notice, NoticeKind
from pannier.records import JobStatus, Lease
from pannier.settlements import Release, Settlement, Succeeded
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

NewId = Callable[[], UUID]


@pytest.fixture
def effects(runner: asyncio.Runner, other: "Connection") -> "Connection":
    """The other program's connection, with a table for the effects of handlers."""
    runner.run(other.execute("CREATE TABLE effects (what text PRIMARY KEY)"))
    return other


def begin(runner: asyncio.Runner, connection: "Connection", isolation: str = "READ COMMITTED") -> None:
    """Open a transaction."""
    runner.run(connection.execute(f"BEGIN ISOLATION LEVEL {isolation}"))


def commit(runner: asyncio.Runner, connection: "Connection") -> None:
    """Commit it."""
    assert runner.run(connection.execute("COMMIT")) == "COMMIT"


def test_a_job_stored_in_a_transaction_is_there_from_the_commit_on(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """Nobody sees it before, and an expected duplicate leaves the transaction usable."""
    job, keyed = new_job(ids()), new_job(ids(), key="k")
    begin(runner, other)
    assert runner.run(storage.store_jobs_in(other, [job, keyed])) == [job.tracking_id, keyed.tracking_id]
    assert runner.run(storage.store_jobs_in(other, [new_job(ids(), key="k"), job])) == [
        keyed.tracking_id,
        job.tracking_id,
    ]
    assert runner.run(storage.get_job(job.tracking_id)) is None
    commit(runner, other)

    assert runner.run(storage.get_job(job.tracking_id)) == job


def test_a_rollback_leaves_nothing(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """The jobs go with the rest of the transaction, and the key is free again."""
    begin(runner, other)
    runner.run(storage.store_jobs_in(other, [new_job(ids(), key="k")]))
    runner.run(other.execute("ROLLBACK"))

    assert runner.run(storage.count_jobs(JobFilter())) == {}
    again = new_job(ids(), key="k")
    assert runner.run(storage.store_jobs([again])) == [again.tracking_id]


def test_a_batch_of_thousands_is_stored_in_the_transaction(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """More than one statement's worth is still the caller's one transaction."""
    jobs = [new_job(ids()) for _ in range(2_500)]
    begin(runner, other)
    assert runner.run(storage.store_jobs_in(other, jobs)) == [job.tracking_id for job in jobs]
    assert runner.run(storage.count_jobs(JobFilter())) == {}
    commit(runner, other)

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 2_500}


def test_a_settlement_commits_with_the_caller_s_effects(
    runner: asyncio.Runner, storage: "PostgresStorage", effects: "Connection", ids: NewId
) -> None:
    """Both stand, or neither."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    begin(runner, effects)
    runner.run(effects.execute("INSERT INTO effects VALUES ('paid')"))
    runner.run(storage.settle_jobs_in(effects, [Settlement(job.lease, Succeeded())], now=T0))
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 1}
    commit(runner, effects)

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1}
    assert runner.run(effects.fetchval("SELECT count(*) FROM effects")) == 1


def test_a_lost_lease_undoes_the_caller_s_effects(
    runner: asyncio.Runner, storage: "PostgresStorage", effects: "Connection", ids: NewId
) -> None:
    """The error leaves the caller's block, whose transaction rolls back: an effect is had once at most."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    good, stale = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs
    batch = [Settlement(good.lease, Succeeded()), Settlement(Lease(stale.tracking_id, 9), Succeeded())]

    async def handle() -> None:
        async with effects.transaction():
            await effects.execute("INSERT INTO effects VALUES ('paid')")
            await storage.settle_jobs_in(effects, batch, now=T0)

    with pytest.raises(LeaseLostError) as caught:
        runner.run(handle())

    assert caught.value.tracking_ids == (stale.tracking_id,)
    assert runner.run(effects.fetchval("SELECT count(*) FROM effects")) == 0
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 2}


def test_a_connection_lent_by_a_pool_will_do(
    runner: asyncio.Runner, storage: "PostgresStorage", postgres_url: str, ids: NewId
) -> None:
    """Asyncpg's pool hands out proxies of its connections."""
    job = new_job(ids())

    async def store() -> None:
        async with (
            asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            await storage.store_jobs_in(connection, [job])

    runner.run(store())
    assert runner.run(storage.get_job(job.tracking_id)) == job


def test_a_caller_s_own_codecs_are_left_alone(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """A connection that reads JSON and UUIDs in ways of its own stores and settles as any other."""
    job = new_job(ids(), key="k", metadata={"tenant": "x"})

    async def play() -> list[UUID]:
        for name in ("json", "jsonb", "uuid"):
            await other.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=str, format="text")
        async with other.transaction():
            await storage.store_jobs_in(other, [job])
            standing = await storage.store_jobs_in(other, [new_job(ids(), key="k")])
        (claimed,) = (await storage.claim_jobs(claim_of())).jobs
        async with other.transaction():
            await storage.settle_jobs_in(other, [Settlement(claimed.lease, Succeeded())], now=T0)
            await storage.settle_jobs_in(other, [Settlement(claimed.lease, Succeeded())], now=T0)  # which is a repeat
        return standing

    assert runner.run(play()) == [job.tracking_id]
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1}


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_any_isolation_level_will_do(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId, isolation: str
) -> None:
    """The transaction is the caller's, and so is its level."""
    first, second = new_job(ids(), key="k"), new_job(ids())
    runner.run(storage.store_jobs([first]))
    begin(runner, other, isolation)
    assert runner.run(storage.store_jobs_in(other, [new_job(ids(), key="k"), second])) == [
        first.tracking_id,
        second.tracking_id,
    ]
    commit(runner, other)


def test_a_key_that_came_after_the_snapshot_is_a_conflict(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """Under REPEATABLE READ the engine must not see the job that stands: try the whole transaction again."""
    begin(runner, other, "REPEATABLE READ")
    runner.run(other.fetch("SELECT 1 FROM jobs"))
    runner.run(storage.store_jobs([new_job(ids(), key="k")]))
    with pytest.raises(StorageConflictError, match="try again"):
        runner.run(storage.store_jobs_in(other, [new_job(ids(), key="k")]))
    runner.run(other.execute("ROLLBACK"))


def test_a_job_whose_key_an_open_transaction_holds_waits_and_others_do_not(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """Who wins the key is known at the other's commit; a job without a key goes past it (R122)."""
    winner, loser, plain = new_job(ids(), key="k"), new_job(ids(), key="k"), new_job(ids())

    async def play() -> list[UUID]:
        async with other.transaction():
            await storage.store_jobs_in(other, [winner])
            waiting = asyncio.create_task(storage.store_jobs([loser]))
            assert await storage.store_jobs([plain]) == [plain.tracking_id]
            assert not waiting.done()
        return await waiting

    assert runner.run(play()) == [winner.tracking_id]


def test_many_who_wait_for_a_key_leave_connections_for_the_others(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """A crowd of stores of one contended key keeps nobody from claiming, storing and reading."""
    winner = new_job(ids(), key="k")

    async def play() -> set[UUID]:
        async with other.transaction():
            await storage.store_jobs_in(other, [winner])
            crowd = [asyncio.create_task(storage.store_jobs([new_job(ids(), key="k")])) for _ in range(30)]
            await storage.store_jobs([new_job(ids())])
            assert len((await storage.claim_jobs(claim_of(limit=9))).jobs) == 1
        return {answer for [answer] in await asyncio.gather(*crowd)}

    assert runner.run(play()) == {winner.tracking_id}


def test_whoever_waits_too_long_for_a_key_is_told_that_the_storage_is_busy(
    runner: asyncio.Runner,
    make: Callable[[str], "PostgresStorage"],
    other: "Connection",
    postgres_url: str,
    ids: NewId,
) -> None:
    """A call takes its timeout at most, whatever others hold, in a transaction of the caller's as well."""

    async def play() -> None:
        impatient, second = make("&timeout=1"), await asyncpg.connect(postgres_url)
        await impatient.open()
        await impatient.get_job(ids())
        async with other.transaction():
            await impatient.store_jobs_in(other, [new_job(ids(), key="k")])
            with pytest.raises(StorageBusyError, match="another transaction"):
                await impatient.store_jobs([new_job(ids(), key="k")])
            with pytest.raises(StorageBusyError, match="another transaction"):
                async with second.transaction():
                    await impatient.store_jobs_in(second, [new_job(ids(), key="k")])
        await second.close()
        await impatient.close()

    runner.run(play())


def test_a_renewal_waits_for_no_transaction_that_settles(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """A lease that is being settled is neither renewed nor lost; its batch is renewed at once (R39)."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    settled, kept = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs
    leases = {settled.lease, kept.lease}
    begin(runner, other)
    runner.run(storage.settle_jobs_in(other, [Settlement(settled.lease, Succeeded())], now=T0))
    assert runner.run(storage.renew_leases(leases, now=T0, lease_for=2 * LEASE)) == frozenset()
    renewed = runner.run(storage.get_job(kept.tracking_id))
    assert renewed is not None
    assert renewed.dequeue_after == T0 + 2 * LEASE
    commit(runner, other)

    assert runner.run(storage.renew_leases(leases, now=T0, lease_for=LEASE)) == {settled.lease}


def test_a_claim_passes_over_a_lapsed_lease_that_is_being_settled(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """It waits for nobody, and says that there may be more (R121)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    begin(runner, other)
    runner.run(storage.settle_jobs_in(other, [Settlement(job.lease, Release())], now=T0))
    passing = runner.run(storage.claim_jobs(claim_of(now=T0 + LEASE)))
    runner.run(other.execute("ROLLBACK"))

    assert passing.jobs == ()
    assert passing.next_due is not None
    assert passing.next_due <= T0 + LEASE
    (again,) = runner.run(storage.claim_jobs(claim_of(now=T0 + LEASE))).jobs
    assert (again.tracking_id, again.fence) == (job.tracking_id, 2)


def test_listeners_hear_of_a_job_at_the_commit(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """The announcement is a part of the transaction, and of one that is rolled back nobody hears."""

    async def play() -> Notice:
        async with asyncio.timeout(20), storage.listen(frozenset({"undone", QUEUE})) as notices:
            await other.execute("BEGIN")
            await storage.store_jobs_in(other, [new_job(ids(), "undone")])
            await other.execute("ROLLBACK")
            async with other.transaction():
                await storage.store_jobs_in(other, [new_job(ids())])
            return await anext(notices)

    assert runner.run(play()) == Notice(NoticeKind.QUEUED, QUEUE)


def test_a_job_that_can_not_be_stored_leaves_the_transaction_usable(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """It is refused before anything is sent to the server."""
    begin(runner, other)
    with pytest.raises(UnstorableError):
        runner.run(storage.store_jobs_in(other, [new_job(ids()), new_job(ids(), "\0")]))
    commit(runner, other)

    assert runner.run(storage.count_jobs(JobFilter())) == {}


def test_a_connection_without_a_transaction_is_refused(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """What was written would stand at once, whatever becomes of the caller's own work."""
    with pytest.raises(UsageError, match="no open transaction"):
        runner.run(storage.store_jobs_in(other, [new_job(ids())]))
    with pytest.raises(TypeError, match="not str"):
        runner.run(storage.store_jobs_in("postgresql://", [new_job(ids())]))  # type: ignore[arg-type]


def test_a_closed_connection_is_said_to_be_closed(
    runner: asyncio.Runner, storage: "PostgresStorage", postgres_url: str, ids: NewId
) -> None:
    """Which is the caller's business, and an error of pannier all the same."""

    async def play() -> None:
        closed = await asyncpg.connect(postgres_url)
        await closed.close()
        await storage.store_jobs_in(closed, [new_job(ids())])

    with pytest.raises(UsageError, match="closed"):
        runner.run(play())
