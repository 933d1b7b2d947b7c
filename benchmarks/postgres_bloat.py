"""
How far a PostgreSQL store swells while jobs go through it, under different storage parameters.

    python -m benchmarks.postgres_bloat --finished 500000 "as migrated" "server's autovacuum"

200,000 jobs are stored, claimed by the hundred, settled and purged, with 2,000 waiting and 20,000 finished at any time,
beside as many older finished ones as are asked for. For each set of parameters: seconds, megabytes of the table and of
its indexes at the end and at their largest, WAL per job, dead rows left, vacuums, and the median of a claim of 100 at
the beginning and at the end. The server is one of its own. It looks for tables to vacuum each five seconds, as one that
has been up for long does under such a load.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import asyncpg
from attrs import define, field
from tests.servers.postgres import running_server

from pannier.claims import Claim, Demand
from pannier.plugins import Plugins
from pannier.purging import StaleJobs
from pannier.records import JobRecord, JobStatus, Payload
from pannier.settlements import Settlement, Succeeded
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl

TOTAL: Final = 200_000
WAITING: Final = 2_000
BATCH: Final = 100
T0: Final = datetime(2030, 1, 1, tzinfo=UTC)
KEPT: Final = timedelta(seconds=20)
"""One job a millisecond of virtual time: 20,000 finished jobs are kept."""

VARIANTS: Final[Mapping[str, str]] = {
    "as migrated": "",
    "fillfactor 85": "SET (fillfactor = 85)",
    "fillfactor 70": "SET (fillfactor = 70)",
    "server's autovacuum": (
        "RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay, "
        "autovacuum_analyze_scale_factor, vacuum_truncate)"
    ),
    "no autovacuum": "SET (autovacuum_enabled = off)",
}


OLDER: Final = """
INSERT INTO {schema}.jobs (tracking_id, queue_id, execute_after, created_at, dequeue_after, command, command_encoding,
    status, finished_at, attempt, fence, worker_id)
SELECT gen_random_uuid(), 'q', '2030-01-01Z', '2030-01-01Z', '2030-01-01Z', '{{"path": "/srv/images/1.png"}}', 'json',
    'failed', '2030-01-01Z', 1, 1, 'w'
FROM generate_series(1, {finished})
"""


@define
class Run:
    """One run, and what it saw."""

    storage: JobStorageProvider
    observer: "asyncpg.Connection[asyncpg.Record]"
    schema: str
    done: int = 0
    stored: int = 0
    claims: list[float] = field(factory=list[float])
    largest: tuple[float, float] = (0.0, 0.0)

    @property
    def now(self) -> datetime:
        """Virtual time."""
        return T0 + timedelta(milliseconds=self.done)

    async def go(self) -> None:
        """Let all jobs through."""
        while self.done < TOTAL:
            if self.stored - self.done < WAITING and self.stored < TOTAL:
                await self.storage.store_jobs([_job() for _ in range(1_000)])
                self.stored += 1_000
            await self._work()
            if self.done % 1_000 == 0:
                await self.storage.purge_stale_jobs(StaleJobs(now=self.now, keep={JobStatus.SUCCEEDED: KEPT}))
            if self.done % 10_000 == 0:
                table, indexes = await self.megabytes()
                self.largest = max(self.largest[0], table), max(self.largest[1], indexes)

    async def _work(self) -> None:
        demands = (Demand(("q",), BATCH),)
        started = time.perf_counter()
        claimed = await self.storage.claim_jobs(
            Claim(
                demands=demands,
                worker_id="w",
                now=self.now,
                lease_for=timedelta(seconds=30),
                look_ahead=timedelta(seconds=60),
            )
        )
        self.claims.append((time.perf_counter() - started) * 1_000)
        settlements = [Settlement(job.lease, Succeeded(Payload({"size": 1}))) for job in claimed.jobs]
        await self.storage.settle_jobs(settlements, now=self.now)
        self.done += len(settlements)

    async def megabytes(self) -> tuple[float, float]:
        """The sizes of the table and of its indexes."""
        row = await self.observer.fetchrow(
            "SELECT pg_table_size($1::text::regclass), pg_indexes_size($1::text::regclass)", f"{self.schema}.jobs"
        )
        return (0.0, 0.0) if row is None else (row[0] / 1e6, row[1] / 1e6)


def _job() -> JobRecord:
    return JobRecord(
        tracking_id=uuid4(),
        queue_id="q",
        command=Payload({"path": "/srv/images/1.png", "size": 640}),
        execute_after=T0,
        expire_on=None,
        created_at=T0,
    )


async def measure(url: str, name: str, change: str, finished: int) -> str:
    """Run one variant on a schema of its own; return its line of the table."""
    schema = f"bloat_{uuid4().hex[:8]}"
    storage = Plugins.installed().create_storage(StorageUrl(f"{url}?schema={schema}&timeout=60"))
    await storage.open()
    observer = await asyncpg.connect(url)
    if change:
        await observer.execute(f"ALTER TABLE {schema}.jobs {change}")
    await observer.execute(OLDER.format(schema=schema, finished=finished))
    await observer.execute(f"VACUUM ANALYZE {schema}.jobs")
    run = Run(storage, observer, schema)
    before = await observer.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    started = time.perf_counter()
    await run.go()
    seconds = time.perf_counter() - started
    wal = await observer.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)", before)
    table, indexes = await run.megabytes()
    await observer.execute("SELECT pg_stat_force_next_flush()")
    dead, vacuums = await observer.fetchrow(
        "SELECT n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'jobs'",
        schema,
    ) or (0, 0)
    await storage.close()
    await Plugins.installed().adapter_for(StorageUrl(url)).destroy(StorageUrl(f"{url}?schema={schema}"))
    await observer.close()
    tenth = len(run.claims) // 10
    return (
        f"| {name} | {seconds:.0f} | {table:.0f} ({run.largest[0]:.0f}) | {indexes:.0f} ({run.largest[1]:.0f}) "
        f"| {int(wal) / TOTAL:,.0f} | {dead:,} | {vacuums} "
        f"| {statistics.median(run.claims[:tenth]):.1f} | {statistics.median(run.claims[-tenth:]):.1f} |"
    )


def main() -> None:
    """Measure the variants that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres_bloat", description=__doc__)
    parser.add_argument("variants", nargs="*", default=[*VARIANTS])
    parser.add_argument("--finished", type=int, default=0, help="older finished jobs that are there")
    asked = parser.parse_args()
    print("| parameters | s | table MB (max) | indexes MB (max) | WAL B/job | dead | vacuums | claim ms | at the end |")
    with running_server(settings={"autovacuum_naptime": "5s", "max_wal_size": "4GB"}) as server:
        for name in asked.variants:
            print(asyncio.run(measure(server.url, name, VARIANTS[name], asked.finished)), flush=True)


if __name__ == "__main__":
    main()
