"""
Bare SQLite: one thread with one connection takes whatever waits into one transaction.

That is the quickest known way to write durably from asyncio: one hop between threads, and one wait for the disk, for
everybody who waits. A single caller gets a transaction of its own.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from benchmarks.contestants import bare_tasks
from benchmarks.contestants.bare_worker import Claimed
from benchmarks.task import Answer, Task, payload

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], object]

LEASE_SECONDS = 30.0

CREATE = """
    CREATE TABLE jobs (id INTEGER PRIMARY KEY, done INTEGER NOT NULL, due REAL NOT NULL, payload TEXT NOT NULL) STRICT;
    CREATE INDEX line ON jobs (due, id) WHERE NOT done;
"""
STORE = "INSERT INTO jobs (done, due, payload) VALUES (0, ?, ?)"
CLAIM = """
    UPDATE jobs SET due = ?2
    WHERE id IN (SELECT id FROM jobs WHERE NOT done AND due <= ?1 ORDER BY due, id LIMIT ?3)
    RETURNING id, payload
"""
COMPLETE = "UPDATE jobs SET done = 1 WHERE id = ?"


class Writer:
    """The thread that owns the connection."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[tuple[Work, asyncio.Future[object]] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work* in a transaction; return when it is committed."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put((work, future))  # type: ignore[arg-type]  # both speak of the same T
        return await future

    async def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        connection = connect(self._task)
        is_open = True
        while is_open:
            taken = [self._waiting.get()]
            while self._waiting.qsize():
                taken.append(self._waiting.get())
            is_open = None not in taken
            group = [asked for asked in taken if asked is not None]
            connection.execute("BEGIN IMMEDIATE")
            answers = [(future, work(connection)) for work, future in group]
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_answer, answers)
        connection.close()


def _answer(answers: Iterable[tuple["asyncio.Future[object]", object]]) -> None:
    for future, answer in answers:
        if not future.cancelled():
            future.set_result(answer)


def connect(task: Task) -> sqlite3.Connection:
    """Open the file, with the durability that *task* names."""
    connection = sqlite3.connect(task.path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if task.storage == 'sqlite-normal' else 'FULL'}")
    return connection


class Store:
    """Jobs in a table."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def put(self, numbers: Sequence[int]) -> None:
        """Store the jobs *numbers*."""
        rows = [(time.time(), json.dumps(payload(number))) for number in numbers]
        await self._writer.do(lambda connection: connection.executemany(STORE, rows))

    async def claim(self, limit: int) -> Sequence[Claimed]:
        """Lease the first *limit* jobs that are due."""
        now = time.time()
        return await self._writer.do(
            lambda connection: connection.execute(CLAIM, (now, now + LEASE_SECONDS, limit)).fetchall()
        )

    async def complete(self, keys: Sequence[int]) -> None:
        """Mark *keys* as done."""
        rows = [(key,) for key in keys]
        await self._writer.do(lambda connection: connection.executemany(COMPLETE, rows))


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Store]:
    """Make the file, and open it."""
    connection = connect(task)
    connection.executescript(CREATE)
    connection.close()
    writer = Writer(task)
    try:
        yield Store(writer)
    finally:
        await writer.close()


def drain(task: Task) -> Answer:
    """Do the jobs by one bare worker."""
    return asyncio.run(bare_tasks.drain(task, opened, window=task.concurrency))


def enqueue(task: Task) -> Answer:
    """Store jobs, each caller awaiting his own."""
    return asyncio.run(bare_tasks.enqueue(task, opened))


def bulk(task: Task) -> Answer:
    """Store jobs in batches."""
    return asyncio.run(bare_tasks.bulk(task, opened))
