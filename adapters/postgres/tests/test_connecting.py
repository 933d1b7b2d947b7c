"""Connecting: what is said when it fails, and how long that takes (R107, R109)."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from tests.servers.postgres import PASSWORD

from pannier.errors import (
    ConfigurationError,
    PannierError,
    StorageBusyError,
    StorageRefusedError,
    StorageUnavailableError,
)
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import JobStatus
from pannier.urls import StorageUrl
from pannier_testing.builders import QUEUE, T0, claim_of, new_job
from pannier_testing.proxy import FaultProxy

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

MakeStorage = Callable[[str], "PostgresStorage"]
NewId = Callable[[], UUID]


@pytest.fixture
def proxy(url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the server."""
    with FaultProxy(url, tmp_path) as proxy:
        yield proxy


def opened(runner: asyncio.Runner, plugins: Plugins, url: str) -> "PostgresStorage":
    """Return an open storage."""
    storage: PostgresStorage = plugins.create_storage(StorageUrl(url))  # type: ignore[assignment]
    runner.run(storage.open())
    return storage


async def seen(other: "Connection", question: str, argument: str) -> None:
    """Wait until the server says yes to *question*. The test's own deadline bounds it."""
    while not await other.fetchval(question, argument):  # the server tells nobody
        await asyncio.sleep(0.01)
        await other.execute("SELECT pg_stat_clear_snapshot()")  # which a transaction keeps


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (f":{PASSWORD}@", ":s3cret@", StorageRefusedError, "refuses the role or its password"),
        ("pannier:", "nobody:", StorageRefusedError, "refuses the role or its password"),
        ("/pannier?", "/missing?", StorageRefusedError, "no such database"),
        ("?", "?sslmode=require&", StorageRefusedError, "offers no TLS"),
        ("?", "?sslmode=some&", ConfigurationError, "TLS options"),
        ("?", "?sslmode=verify-full&sslrootcert=/nowhere&", ConfigurationError, r"sslrootcert .* can't be read"),
    ],
)
def test_a_wrong_url_is_an_error_with_the_remedy_and_without_the_password(
    runner: asyncio.Runner,
    plugins: Plugins,
    postgres_server: "PostgresServer",
    old: str,
    new: str,
    error: type[PannierError],
    words: str,
) -> None:
    """Whoever opens a storage wrongly learns what to correct."""
    url = f"{postgres_server.url}?schema=wrong".replace(old, new, 1)
    with pytest.raises(error, match=words) as caught:
        opened(runner, plugins, url)

    shown = f"{caught.value}{caught.value!r}"
    assert PASSWORD not in shown
    assert "s3cret" not in shown


def test_nobody_listening_is_said_within_the_timeout(runner: asyncio.Runner, plugins: Plugins) -> None:
    """A server that is down refuses at once."""
    with pytest.raises(StorageUnavailableError, match="check that it runs"):
        opened(runner, plugins, "postgresql://pannier:s3cret@127.0.0.1:1/pannier")


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy
) -> None:
    """A packet filter that swallows everything costs one timeout, not a minute (R113)."""
    proxy.set(is_silent=True)
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="did not answer in time"):
        opened(runner, plugins, f"{proxy.url}&timeout=0.5")

    assert time.monotonic() - started < 10


def test_a_call_in_a_silence_is_given_up_and_the_next_one_after_it_works(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """The instance mends itself (R110, R113)."""
    storage = opened(runner, plugins, f"{proxy.url}&timeout=1")
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    proxy.set(is_silent=True)
    with pytest.raises(StorageUnavailableError):
        runner.run(storage.store_jobs([new_job(ids())]))
    proxy.cut()
    proxy.heal()

    assert runner.run(storage.get_job(job.tracking_id)) == job
    runner.run(storage.close())


def test_a_reset_in_the_middle_of_a_call_is_mended(
    runner: asyncio.Runner, plugins: Plugins, proxy: FaultProxy, ids: NewId
) -> None:
    """The call either happened or not; repeating it is right in both cases (R110, R111)."""
    storage = opened(runner, plugins, proxy.url)
    jobs = [new_job(ids()) for _ in range(14)]  # the answer to a call has 27 bytes
    runner.run(storage.store_jobs(jobs[:1]))
    for room, job in enumerate(jobs[1:]):
        proxy.set(**{("reset_after_sent", "reset_after_received")[room % 2]: room * 2})
        with pytest.raises(StorageUnavailableError):
            runner.run(storage.store_jobs([job]))
        proxy.heal()
        assert runner.run(storage.store_jobs([job])) == [job.tracking_id]

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): len(jobs)}
    runner.run(storage.close())


def test_connections_that_the_server_has_cut_are_replaced(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", schema: str, ids: NewId
) -> None:
    """An administrator's pg_terminate_backend, or a restart, costs one failed call at most."""
    storage = make(f"&application_name={schema}")

    async def play() -> int:
        await storage.open()
        await asyncio.gather(*(storage.get_job(ids()) for _ in range(8)))
        cut = await other.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", schema
        )
        await storage.get_job(ids())
        await storage.close()
        return len(cut)

    assert runner.run(play()) > 0


def test_a_connection_that_is_cut_while_it_works_is_an_error_of_that_call(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", schema: str, ids: NewId
) -> None:
    """The others of the instance go on."""
    storage = make(f"&application_name={schema}")
    waiting = "FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"

    async def play() -> None:
        await storage.open()
        async with other.transaction():
            await storage.store_jobs_in(other, [new_job(ids(), key="k")])
            stuck = asyncio.create_task(storage.store_jobs([new_job(ids(), key="k")]))
            await seen(other, f"SELECT count(*) > 0 {waiting}", schema)
            await other.fetch(f"SELECT pg_terminate_backend(pid) {waiting}", schema)
            with pytest.raises(StorageUnavailableError, match="has cut the connection"):
                await stuck
            await storage.store_jobs([new_job(ids())])
        await storage.close()

    runner.run(play())


def test_a_locked_table_makes_a_call_busy_within_the_timeout(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", ids: NewId
) -> None:
    """The server ends the statement itself, so that nothing goes on behind the caller's back."""

    async def play() -> int:
        storage = make("&timeout=1")
        await storage.open()
        await storage.store_jobs([new_job(ids())])
        async with other.transaction():
            await other.execute("LOCK TABLE jobs")
            with pytest.raises(StorageBusyError, match="end that transaction"):
                await storage.claim_jobs(claim_of())
        claimed = await storage.claim_jobs(claim_of())
        await storage.close()
        return len(claimed.jobs)

    assert runner.run(play()) == 1


def test_a_crowd_of_calls_shares_the_connections_it_may_have(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", schema: str, ids: NewId
) -> None:
    """No more are opened than the URL says, and everybody has his turn."""
    storage = make(f"&application_name={schema}&connections=4")

    async def play() -> int:
        await storage.open()
        await asyncio.gather(*(storage.get_job(ids()) for _ in range(200)))
        used: int = await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", schema)
        await storage.close()
        return used

    assert runner.run(play()) == 4


def test_a_server_without_a_free_connection_says_what_to_lower(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer"
) -> None:
    """It is a passing state, and so a retryable error."""
    postgres_server.execute("ALTER ROLE pannier CONNECTION LIMIT 0")
    try:
        with pytest.raises(StorageUnavailableError, match="lower connections"):
            opened(runner, plugins, postgres_server.url)
    finally:
        postgres_server.execute("ALTER ROLE pannier CONNECTION LIMIT -1")


def test_a_standby_is_said_to_be_read_only_and_left_for_the_primary(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer", ids: NewId
) -> None:
    """After a failover connections lead to a standby: the error is retryable, and the next call connects anew."""
    storage = opened(runner, plugins, f"{postgres_server.url}?schema=standby")
    runner.run(storage.close())
    postgres_server.execute("ALTER ROLE pannier SET default_transaction_read_only = on")
    runner.run(storage.open())
    with pytest.raises(StorageUnavailableError, match="is read-only"):
        runner.run(storage.store_jobs([new_job(ids())]))
    postgres_server.execute("ALTER ROLE pannier RESET default_transaction_read_only")

    assert len(runner.run(storage.store_jobs([new_job(ids())]))) == 1
    runner.run(storage.close())


def test_a_unix_socket_will_do(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer", ids: NewId
) -> None:
    """The host may be a folder."""
    storage = opened(runner, plugins, f"{postgres_server.socket_url}&schema=socket")
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))

    assert runner.run(storage.get_job(job.tracking_id)) == job
    runner.run(storage.close())


def test_a_cancelled_call_leaves_no_statement_and_no_lock_behind(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", schema: str, ids: NewId
) -> None:
    """The server is told to stop, and the connection is not used again before it has (R36, R94)."""
    storage = make(f"&application_name={schema}")
    busy = "FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'"

    async def play() -> int:
        await storage.open()
        async with other.transaction():
            await storage.store_jobs_in(other, [new_job(ids(), key="k")])
            stuck = asyncio.create_task(storage.store_jobs([new_job(ids(), key="k")]))
            await seen(other, f"SELECT count(*) > 0 {busy}", schema)
            stuck.cancel()
            await asyncio.wait([stuck])
            await seen(other, f"SELECT count(*) = 0 {busy}", schema)
        claimed = await storage.claim_jobs(claim_of(limit=9))
        await storage.close()
        return len(claimed.jobs)

    assert runner.run(play()) == 1


def test_the_clock_is_the_server_s(runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection") -> None:
    """Workers on many machines agree by it."""
    before = runner.run(other.fetchval("SELECT clock_timestamp()"))
    at = runner.run(storage.read_clock())
    after = runner.run(other.fetchval("SELECT clock_timestamp()"))

    assert at is not None
    assert before <= at <= after


def test_claims_take_the_time_that_they_are_given(
    runner: asyncio.Runner, storage: "PostgresStorage", ids: NewId
) -> None:
    """No statement asks the server what time it is: what is due is decided by the caller's now (R83)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    early = runner.run(storage.claim_jobs(claim_of(now=T0.replace(year=2001))))

    assert (early.jobs, early.next_due) == ((), None)
    assert len(runner.run(storage.claim_jobs(claim_of(now=T0.replace(year=2099)))).jobs) == 1
