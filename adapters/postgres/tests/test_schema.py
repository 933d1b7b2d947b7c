"""The schema: how it comes about, who may use it, and what it holds others to."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import UUID

import asyncpg
import pytest

from pannier.errors import SchemaTooNewError, StorageRefusedError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.purging import StaleJobs
from pannier.records import JobStatus, Lease, Payload
from pannier.settlements import Release, Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_postgres._migrations import KNOWN
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, full_job, new_job

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

    from pannier_postgres._connection import Connection
    from pannier_postgres.provider import PostgresStorage

MakeStorage = Callable[[str], "PostgresStorage"]
NewId = Callable[[], UUID]

OPENS = """
import asyncio, sys
from pannier.plugins import Plugins
from pannier.urls import StorageUrl

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    await storage.open()
    await storage.close()

asyncio.run(main())
"""


def test_many_processes_open_a_new_schema_at_once(runner: asyncio.Runner, url: str, postgres_url: str) -> None:
    """All succeed, and there is one schema (R114)."""
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    ended = [opener.communicate(timeout=60)[1] for opener in openers]

    assert ended == [""] * 8
    assert runner.run(versions(postgres_url, url)) == [(version, 1) for version in range(1, KNOWN + 1)]


async def versions(postgres_url: str, url: str) -> list[tuple[int, int]]:
    """Return the versions that the schema has been through."""
    connection = await asyncpg.connect(postgres_url)
    schema = StorageUrl(url).options["schema"]
    rows = await connection.fetch(f'SELECT version, readable_from FROM "{schema}".schema_versions')  # noqa: S608
    await connection.close()
    return [tuple(row) for row in rows]


def test_whoever_comes_during_a_migration_waits_for_it(
    runner: asyncio.Runner, make: MakeStorage, other: "Connection", schema: str
) -> None:
    """Also for longer than a call may take: a migration of millions of jobs does."""

    async def play() -> bool:
        await other.execute("DELETE FROM schema_versions")
        await other.execute("DROP TABLE jobs")
        late = make("&timeout=0.3")
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"pannier.{schema}")
            opening = asyncio.create_task(late.open())
            await asyncio.wait([opening], timeout=1)
            has_waited = not opening.done()
        await opening
        await late.close()
        return has_waited

    assert runner.run(play())


def test_a_newer_compatible_schema_is_used_and_its_columns_are_kept(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """What a newer worker has written beside a job is still there after ours has settled it (R116)."""
    runner.run(other.execute("ALTER TABLE jobs ADD COLUMN colour text"))
    runner.run(other.execute("INSERT INTO schema_versions VALUES ($1, $2, false)", KNOWN + 1, KNOWN))
    runner.run(storage.store_jobs([new_job(ids())]))
    runner.run(other.execute("UPDATE jobs SET colour = 'red'"))
    runner.run(storage.close())
    runner.run(storage.open())
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0))

    assert runner.run(other.fetchval("SELECT status || ' ' || colour FROM jobs")) == "succeeded red"


def test_a_newer_incompatible_schema_is_refused_and_left_as_it_is(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection"
) -> None:
    """The error names both versions (R115)."""
    runner.run(other.execute("INSERT INTO schema_versions VALUES ($1, $2, false)", KNOWN + 3, KNOWN + 2))
    before = runner.run(other.fetch("SELECT * FROM schema_versions"))
    runner.run(storage.close())
    with pytest.raises(SchemaTooNewError) as caught:
        runner.run(storage.open())

    assert (caught.value.found, caught.value.known) == (KNOWN + 3, KNOWN)
    assert runner.run(other.fetch("SELECT * FROM schema_versions")) == before


def test_a_person_can_read_the_jobs(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """Payloads are JSON, metadata can be filtered by containment, and statuses are words."""
    job = full_job(ids())
    runner.run(storage.store_jobs([job]))
    row = runner.run(
        other.fetchrow(
            "SELECT tracking_id, status, execute_after, command #>> '{to,0}' AS first FROM jobs "
            """WHERE metadata @> '{"tenant": "acme"}'"""
        )
    )

    assert row is not None
    assert tuple(row) == (job.tracking_id, "pending", job.execute_after, "a@example.org")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'done'", "jobs_status_fits"),
        ("status = 'failed'", "jobs_status_fits"),
        ("status = 'running'", "jobs_status_fits"),
        ("worker_id = 'w'", "jobs_status_fits"),
        ("result = '1', result_encoding = 'json'", "jobs_result_only_of_success"),
        ("progress = '1'", "jobs_progress_is_one_value"),
        ("command = NULL", "jobs_command_is_one_value"),
        ("priority = 101", "jobs_priority_in_range"),
        ("attempt = 1", "jobs_counts_add_up"),
        ("expire_on = execute_after", "jobs_expire_after_execute"),
    ],
)
def test_the_table_repeats_the_invariants_by_name(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    other: "Connection",
    ids: NewId,
    change: str,
    constraint: str,
) -> None:
    """Another hand can't bring a job into a state that has no meaning."""
    runner.run(storage.store_jobs([new_job(ids())]))

    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        runner.run(other.execute(f"UPDATE jobs SET {change}"))  # noqa: S608  # a constant of this test


@pytest.mark.parametrize("name", ["My jobs", 'a"b', "$$;DROP", "ü.jobs"])
def test_a_schema_may_have_any_name(
    runner: asyncio.Runner, plugins: Plugins, postgres_url: str, ids: NewId, name: str
) -> None:
    """It is quoted wherever it stands, and destroying it leaves nothing."""
    url = StorageUrl(f"{postgres_url}?schema={quote(name)}")

    async def play() -> int:
        storage = plugins.create_storage(url)
        await storage.open()
        await storage.store_jobs([new_job(ids())])
        claimed = await storage.claim_jobs(claim_of())
        await storage.close()
        await plugins.adapter_for(url).destroy(url)
        await plugins.adapter_for(url).destroy(url)
        return len(claimed.jobs)

    assert runner.run(play()) == 1


def test_destroying_spares_what_is_another_s(
    runner: asyncio.Runner,
    storage: "PostgresStorage",
    other: "Connection",
    plugins: Plugins,
    url: str,
    schema: str,
) -> None:
    """The tables go; a schema that holds something else stays, and so does that (R95)."""
    runner.run(storage.close())
    runner.run(other.execute("CREATE TABLE mine (a integer)"))

    async def destroyed() -> None:
        await plugins.adapter_for(StorageUrl(url)).destroy(StorageUrl(url))

    runner.run(destroyed())

    names = "SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    assert runner.run(other.fetchval(f"{names} AND relkind IN ('r', 'i', 'S')")) == ["mine"]
    runner.run(other.execute(f"DROP SCHEMA {schema} CASCADE"))


def test_a_role_that_may_only_write_rows_can_work(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer", ids: NewId
) -> None:
    """An owner makes the schema once; programs need SELECT, INSERT, UPDATE and DELETE on its tables, nothing else."""
    owner = StorageUrl(f"{postgres_server.url}?schema=shared")
    worker = StorageUrl(postgres_server.url.replace("pannier:correct-horse@", "worker:w@") + "?schema=shared")

    async def play() -> dict[tuple[str, JobStatus], int]:
        made = plugins.create_storage(owner)
        await made.open()
        await made.close()
        postgres_server.execute(
            "CREATE ROLE worker LOGIN PASSWORD 'w'; GRANT USAGE ON SCHEMA shared TO worker; "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shared TO worker"
        )
        storage: PostgresStorage = plugins.create_storage(worker)  # type: ignore[assignment]
        await storage.open()
        async with storage.listen(frozenset({QUEUE})) as notices:
            jobs = [new_job(ids(), key="k"), new_job(ids())]
            await storage.store_jobs(jobs)
            await anext(notices)
        first, second = (await storage.claim_jobs(claim_of(limit=2))).jobs
        await storage.store_progress(first.lease, Payload(1))
        await storage.renew_leases([first.lease], now=T0, lease_for=LEASE)
        await storage.settle_jobs([Settlement(first.lease, Succeeded()), Settlement(second.lease, Release())], now=T0)
        await storage.cancel_job(second.tracking_id, now=T0)
        await storage.requeue_job(second.tracking_id, now=T0, expire_on=None)
        await storage.purge_stale_jobs(StaleJobs(now=T0 + LEASE, keep={JobStatus.SUCCEEDED: LEASE}))
        counts = await storage.count_jobs(JobFilter())
        await storage.close()
        return dict(counts)

    assert runner.run(play()) == {(QUEUE, JobStatus.PENDING): 1}


def test_a_role_that_may_not_make_the_schema_is_told_what_to_grant(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer"
) -> None:
    """The server's refusal comes with the remedy, and nothing was made."""
    postgres_server.execute("CREATE ROLE guest LOGIN PASSWORD 'g'")
    url = postgres_server.url.replace("pannier:correct-horse@", "guest:g@")
    storage = plugins.create_storage(StorageUrl(f"{url}?schema=denied"))

    with pytest.raises(StorageRefusedError, match="grant CREATE on the database") as caught:
        runner.run(storage.open())
    assert "guest:g@" not in str(caught.value)


def test_a_role_that_owns_an_empty_schema_needs_no_right_to_make_one(
    runner: asyncio.Runner, plugins: Plugins, postgres_server: "PostgresServer", ids: NewId
) -> None:
    """An administrator may make the schema, as many rules of houses want it; destroying leaves it to him."""
    postgres_server.execute("CREATE ROLE tenant LOGIN PASSWORD 't'; CREATE SCHEMA rented AUTHORIZATION tenant")
    url = StorageUrl(postgres_server.url.replace("pannier:correct-horse@", "tenant:t@") + "?schema=rented")

    async def play() -> None:
        storage = plugins.create_storage(url)
        await storage.open()
        await storage.store_jobs([new_job(ids())])
        await storage.close()
        await plugins.adapter_for(url).destroy(url)

    runner.run(play())
    postgres_server.execute("DROP SCHEMA rented")


def test_a_schema_that_was_dropped_meanwhile_is_named(
    runner: asyncio.Runner, storage: "PostgresStorage", other: "Connection", ids: NewId
) -> None:
    """The error says what is gone and what to do, whatever statement meets it."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    runner.run(other.execute("DROP TABLE jobs"))

    with pytest.raises(StorageRefusedError, match="a part of the schema is gone"):
        runner.run(storage.get_job(job.tracking_id))
    with pytest.raises(StorageRefusedError, match="a part of the schema is gone"):
        runner.run(storage.settle_jobs([Settlement(Lease(job.tracking_id, 1), Succeeded())], now=T0))
