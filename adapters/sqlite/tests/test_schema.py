"""The schema: how it comes about, who may use it, and what keeps its statements quick."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.errors import SchemaTooNewError
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_sqlite._connection import connect
from pannier_sqlite._migrations import MIGRATIONS, Migration, migrate
from pannier_sqlite._statements import statement
from pannier_sqlite.settings import settings_of
from pannier_testing.builders import T0, claim_of, full_job, new_job

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

NewId = Callable[[], UUID]
NEWEST = MIGRATIONS[-1].version

OPENS = """
import asyncio, sys
from pannier.plugins import Plugins
from pannier.urls import StorageUrl

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    sys.stdin.readline()
    await storage.open()
    await storage.close()

asyncio.run(main())
"""


def migrate_with(path: Path, migrations: tuple[Migration, ...]) -> None:
    """Migrate the file by the given steps."""
    with closing(connect(settings_of(StorageUrl(f"sqlite:///{path}")))) as connection:
        migrate(connection, migrations)


def test_many_processes_open_a_new_file_at_once(path: Path) -> None:
    """All succeed, and there is one schema (R114)."""
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, f"sqlite:///{path}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    ended = [opener.communicate("\n", timeout=60)[1] for opener in openers]

    assert ended == [""] * 4
    with closing(sqlite3.connect(path)) as connection:
        versions = connection.execute("SELECT version FROM pannier_schema").fetchall()
    assert versions == [(migration.version,) for migration in MIGRATIONS]


def test_a_store_of_the_first_schema_is_migrated_with_its_jobs(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, path: Path, ids: NewId
) -> None:
    """An older store opens, keeps what it holds (R115), and what was running there goes on."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(storage.close())
    other.executescript("DROP VIEW pannier_readable_jobs; DELETE FROM pannier_schema WHERE version > 1;")
    migrate_with(path, MIGRATIONS)
    runner.run(storage.open())

    assert runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0)) == frozenset()
    assert other.execute("SELECT status FROM pannier_readable_jobs").fetchall() == [("succeeded",)]


def test_a_newer_compatible_schema_is_used_and_its_columns_are_kept(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, path: Path, ids: NewId
) -> None:
    """What a newer worker has written beside a job is still there after ours has settled it (R116)."""
    newer = Migration(NEWEST + 1, NEWEST, "ALTER TABLE pannier_jobs ADD COLUMN colour TEXT;\n")
    migrate_with(path, (*MIGRATIONS, newer))
    runner.run(storage.store_jobs([new_job(ids())]))
    other.execute("UPDATE pannier_jobs SET colour = 'red'")
    runner.run(storage.close())
    runner.run(storage.open())
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    runner.run(storage.settle_jobs([Settlement(job.lease, Succeeded())], now=T0))

    assert other.execute("SELECT status, colour FROM pannier_jobs").fetchall() == [("succeeded", "red")]


def test_a_newer_incompatible_schema_is_refused_and_left_as_it_is(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, path: Path
) -> None:
    """The error names both versions (R115)."""
    migrate_with(path, (*MIGRATIONS, Migration(NEWEST + 3, NEWEST + 2, "CREATE TABLE tomorrow (a);\n")))
    before = other.execute("SELECT * FROM sqlite_schema").fetchall()
    runner.run(storage.close())
    with pytest.raises(SchemaTooNewError) as caught:
        runner.run(storage.open())

    assert (caught.value.found, caught.value.known) == (NEWEST + 3, NEWEST)
    assert other.execute("SELECT * FROM sqlite_schema").fetchall() == before


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    """Each migration is one transaction."""
    broken = Migration(NEWEST + 1, NEWEST, "CREATE TABLE half (a);\nCREATE TABLE half (a);\n")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate_with(path, (*MIGRATIONS, broken))

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_a_person_can_read_the_jobs(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Payloads are JSON text, and the view spells times out."""
    job = full_job(ids())
    runner.run(storage.store_jobs([job]))

    assert other.execute(
        "SELECT tracking_id, status, execute_after, command ->> '$.to[0]', metadata ->> 'tenant' "
        "FROM pannier_readable_jobs"
    ).fetchall() == [(str(job.tracking_id), "pending", "2030-01-01 00:00:02.000000", "a@example.org", "acme")]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'done'", "finished_at_is_set_if_and_only_if_complete"),
        ("status = 'failed'", "finished_at_is_set_if_and_only_if_complete"),
        ("status = 'running'", "running_has_been_claimed"),
        ("worker_id = 'w'", "pending_has_no_worker"),
        ("result = '1', result_encoding = 'json'", "only_success_has_a_result"),
        ("progress = '1'", "progress_has_an_encoding"),
        ("priority = 101", "priority_is_from_minus_100_to_100"),
        ("fence = -1", "counts_are_not_negative"),
        ("expire_on = execute_after", "expire_on_lies_after_execute_after"),
        ("tracking_id = 'x'", "tracking_id_is_a_uuid"),
    ],
)
def test_the_table_repeats_the_invariants_by_name(
    runner: asyncio.Runner,
    storage: "SqliteStorage",
    other: sqlite3.Connection,
    ids: NewId,
    change: str,
    constraint: str,
) -> None:
    """Another hand can't bring a job into a state that has no meaning."""
    runner.run(storage.store_jobs([new_job(ids())]))

    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        other.execute(f"UPDATE pannier_jobs SET {change}")  # noqa: S608  # a constant of this test


@pytest.mark.parametrize(
    "name",
    [
        path.name.removesuffix(".sql")
        for path in sorted(files("pannier_sqlite").joinpath("sql").iterdir(), key=lambda path: path.name)
        if not path.name.startswith(("count_", "find_jobs"))
    ],
)
def test_no_statement_of_a_worker_reads_or_sorts_a_whole_table(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId, name: str
) -> None:
    """Every look-up goes through an index, and none sorts what it has not read from one in order (R119, R120)."""
    runner.run(storage.store_jobs([new_job(ids())]))
    sql = "\n".join(line for line in statement(name).splitlines() if not line.startswith("--"))
    parameters = dict.fromkeys(
        ("queue_id", "worker_id", "lease_end", "priority", "now", "seqs", "limit", "status", "finished_until",
         "tracking_id", "expire_on"),
        None,
    )  # fmt: skip
    plan = other.execute(f"EXPLAIN QUERY PLAN {sql}", parameters if ":" in sql else (None,) * sql.count("?")).fetchall()
    steps = [step for *_, step in plan]

    assert not [step for step in steps if step.startswith(("SCAN pannier_jobs", "SCAN jobs")) or "TEMP B-TREE" in step]


def test_a_claim_looks_at_no_job_that_is_not_due(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Behind thousands of jobs that wait at higher priorities, a claim takes as many steps of the engine as before."""

    def steps_of_a_survey() -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        other.set_progress_handler(count, 1)
        other.execute(statement("survey_queue"), {"queue_id": "mail"}).fetchall()
        other.set_progress_handler(None, 1)
        return steps

    runner.run(storage.store_jobs([new_job(ids()), new_job(ids(), priority=100, execute_after=T0 + timedelta(days=1))]))
    steps_of_a_survey()  # reads the schema, too
    few = steps_of_a_survey()
    later = [new_job(ids(), priority=100, execute_after=T0 + timedelta(days=1)) for _ in range(3_000)]
    runner.run(storage.store_jobs(later))

    assert steps_of_a_survey() <= few
