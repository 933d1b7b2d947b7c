"""
Poolers that lend a session for one transaction at a time.

Those with a real PgBouncer run where one is installed: its path in PANNIER_TEST_PGBOUNCER, or `pgbouncer` on PATH.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from tests.servers.postgres import PASSWORD, ROLE

from pannier.inspection import JobFilter, Requeue
from pannier.notices import Notice, NoticeKind
from pannier.plugins import Plugins
from pannier.purging import StaleJobs
from pannier.records import Cancellation, JobStatus, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

MakeStorage = Callable[[str], "PostgresStorage"]
NewId = Callable[[], UUID]

PGBOUNCER = os.environ.get("PANNIER_TEST_PGBOUNCER") or shutil.which("pgbouncer")


@pytest.fixture
def pooled_url(postgres_server: "PostgresServer", schema: str) -> Iterator[str]:
    """The URL of a PgBouncer that has two sessions for everybody, each lent for one transaction."""
    if PGBOUNCER is None:
        pytest.skip("no PgBouncer: set PANNIER_TEST_PGBOUNCER to the path of one")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    configuration = postgres_server.folder / "pgbouncer.ini"
    users = postgres_server.folder / "pgbouncer.users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    configuration.write_text(
        f"[databases]\n{ROLE} = host=127.0.0.1 port={postgres_server.port} dbname={ROLE}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        f"default_pool_size = 2\nserver_round_robin = 1\n"
    )
    drop = ("--user=nobody",) if os.geteuid() == 0 else ()
    postgres_server.folder.chmod(0o755)
    pooler = subprocess.Popen([PGBOUNCER, "--quiet", *drop, str(configuration)])
    end = time.monotonic() + 20
    while not is_answering(port):
        assert pooler.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    yield f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{ROLE}?schema={schema}&pooler=transaction"
    pooler.terminate()
    pooler.wait()


def is_answering(port: int) -> bool:
    """Whether anybody listens on *port*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_verb_works_behind_a_pooler(
    runner: asyncio.Runner, plugins: Plugins, pooled_url: str, ids: NewId
) -> None:
    """Whatever session a transaction gets, from many callers at once."""

    async def life(storage: "PostgresStorage", queue_id: str) -> None:
        jobs = [new_job(ids(), queue_id, key="k"), new_job(ids(), queue_id), new_job(ids(), queue_id)]
        await storage.store_jobs(jobs)
        assert await storage.store_jobs([new_job(ids(), queue_id, key="k")]) == [jobs[0].tracking_id]
        first, second, third = (await storage.claim_jobs(claim_of(queue_id, limit=9))).jobs
        assert await storage.store_progress(first.lease, Payload(1))
        assert await storage.renew_leases([first.lease], now=T0, lease_for=LEASE) == frozenset()
        outcomes = [Settlement(first.lease, Succeeded(Payload(2))), Settlement(second.lease, Release())]
        assert await storage.settle_jobs(outcomes, now=T0) == frozenset()
        assert await storage.cancel_job(third.tracking_id, now=T0) is Cancellation.CANCELLED
        assert await storage.requeue_job(third.tracking_id, now=T0, expire_on=None) is Requeue.REQUEUED
        result = await storage.get_job_result(first.tracking_id)
        assert result is not None
        assert result.result == Payload(2)
        await storage.purge_stale_jobs(StaleJobs(now=T0 + LEASE, keep={}, queue_ids=frozenset({queue_id})))

    async def play() -> dict[tuple[str, JobStatus], int]:
        storage: PostgresStorage = plugins.create_storage(StorageUrl(pooled_url))  # type: ignore[assignment]
        await storage.open()
        await asyncio.gather(*(life(storage, f"q{number}") for number in range(20)))
        counts = await storage.count_jobs(JobFilter(queue_ids=frozenset({"q7"})))
        await storage.close()
        return dict(counts)

    assert runner.run(play()) == {("q7", JobStatus.PENDING): 2, ("q7", JobStatus.SUCCEEDED): 1}


def test_many_open_a_new_schema_behind_a_pooler_at_once(
    runner: asyncio.Runner, plugins: Plugins, pooled_url: str, ids: NewId
) -> None:
    """The migration and its lock are in one transaction, and so in one session; destroying is, too."""

    async def play() -> int:
        storages = [plugins.create_storage(StorageUrl(pooled_url)) for _ in range(8)]
        await asyncio.gather(*(storage.open() for storage in storages))
        await storages[0].store_jobs([new_job(ids())])
        claimed = await storages[1].claim_jobs(claim_of())
        await asyncio.gather(*(storage.close() for storage in storages))
        await plugins.adapter_for(StorageUrl(pooled_url)).destroy(StorageUrl(pooled_url))
        return len(claimed.jobs)

    assert runner.run(play()) == 1


def test_workers_that_connect_directly_hear_of_jobs_that_come_through_the_pooler(
    runner: asyncio.Runner,
    plugins: Plugins,
    pooled_url: str,
    postgres_server: "PostgresServer",
    schema: str,
    ids: NewId,
) -> None:
    """A web program goes through the pooler, and its jobs wake workers at once (R124)."""

    async def play() -> Notice:
        pooled: PostgresStorage = plugins.create_storage(StorageUrl(pooled_url))  # type: ignore[assignment]
        direct: PostgresStorage = plugins.create_storage(StorageUrl(f"{postgres_server.url}?schema={schema}"))  # type: ignore[assignment]
        await pooled.open()
        await direct.open()
        async with asyncio.timeout(20), direct.listen(frozenset({QUEUE})) as notices:
            await pooled.store_jobs([new_job(ids())])
            heard = await anext(notices)
        await direct.close()
        await pooled.close()
        return heard

    assert runner.run(play()) == Notice(NoticeKind.QUEUED, QUEUE)


def test_nothing_is_left_in_a_session_that_is_only_lent(runner: asyncio.Runner, make: MakeStorage, ids: NewId) -> None:
    """Neither prepared statements nor settings: who gets the session next does not know of them."""
    storage = make("&pooler=transaction&connections=4")

    async def left(connection: "Connection") -> list[tuple[str, ...]]:
        await connection.execute("COMMIT; BEGIN")  # what was set for the transaction is gone with it
        rows = await connection.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''")
        settings = await connection.fetch(
            "SELECT name FROM pg_settings WHERE name IN ('enable_seqscan', 'plan_cache_mode', 'statement_timeout') "
            "AND setting <> reset_val OR name = 'enable_seqscan' AND setting = 'off'"
        )
        return [*map(tuple, rows), *map(tuple, settings)]

    async def play() -> list[tuple[str, ...]]:
        await storage.open()
        await storage.store_jobs([new_job(ids()) for _ in range(3)])
        await storage.claim_jobs(claim_of(limit=2))
        found = await storage._run(left)
        await storage.close()
        return found

    assert runner.run(play()) == []
