"""
Bare PostgreSQL: asyncpg with prepared statements, two connections that claim and one that completes.

Concurrent callers share an insert: what waits while one is under way goes into the next.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.contestants import bare_tasks
from benchmarks.contestants.bare_worker import Claimed
from benchmarks.task import Answer, Task, payload

LEASE = timedelta(seconds=30)
CLAIMERS = 2

CREATE = """
    CREATE TABLE jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        done boolean NOT NULL DEFAULT false,
        due timestamptz NOT NULL,
        payload text NOT NULL
    );
    CREATE INDEX line ON jobs (due, id) WHERE NOT done;
"""
STORE = "INSERT INTO jobs (due, payload) SELECT $1, payload FROM unnest($2::text[]) AS given (payload)"
CLAIM = """
    WITH taken AS MATERIALIZED (
        SELECT id FROM jobs WHERE NOT done AND due <= $1 ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET due = $2 WHERE id = ANY (ARRAY(SELECT id FROM taken)) RETURNING id, payload
"""
COMPLETE = "UPDATE jobs SET done = true WHERE id = ANY ($1::bigint[])"


class Store:
    """Jobs in a table."""

    def __init__(self, connections: Sequence["asyncpg.Connection[asyncpg.Record]"]) -> None:
        self._writer, *claimers = connections
        self._claimers: asyncio.LifoQueue[asyncpg.Connection[asyncpg.Record]] = asyncio.LifoQueue()
        for connection in claimers:
            self._claimers.put_nowait(connection)
        self._waiting: list[tuple[Sequence[str], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def put(self, numbers: Iterable[int]) -> None:
        """Store the jobs *numbers*."""
        rows = [json.dumps(payload(number)) for number in numbers]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, stored))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await stored

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._writer.execute(STORE, datetime.now(UTC), [row for rows, _ in group for row in rows])
            for _, stored in group:
                stored.set_result(None)
        self._flushing = None

    async def claim(self, limit: int) -> Sequence[Claimed]:
        """Lease the first *limit* jobs that are due."""
        connection = await self._claimers.get()
        now = datetime.now(UTC)
        try:
            return [(row[0], row[1]) for row in await connection.fetch(CLAIM, now, now + LEASE, limit)]
        finally:
            self._claimers.put_nowait(connection)

    async def complete(self, keys: Sequence[int]) -> None:
        """Mark *keys* as done."""
        await self._writer.execute(COMPLETE, keys)


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Store]:
    """Make the table, and connect."""
    connections = [await asyncpg.connect(task.server) for _ in range(1 + CLAIMERS)]
    await connections[0].execute(CREATE)
    try:
        yield Store(connections)
    finally:
        for connection in connections:
            connection.terminate()


def drain(task: Task) -> Answer:
    """Do the jobs by one bare worker."""
    return asyncio.run(bare_tasks.drain(task, opened, window=2 * task.concurrency, claimers=CLAIMERS))


def enqueue(task: Task) -> Answer:
    """Store jobs, each caller awaiting his own."""
    return asyncio.run(bare_tasks.enqueue(task, opened))


def bulk(task: Task) -> Answer:
    """Store jobs in batches."""
    return asyncio.run(bare_tasks.bulk(task, opened))
