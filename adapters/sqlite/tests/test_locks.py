"""Locks: who waits for whom, and for how long."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.errors import StorageBusyError
from pannier.inspection import JobFilter
from pannier.records import JobStatus
from pannier_testing.builders import LEASE, QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

NewId = Callable[[], UUID]

DRAINS = """
import asyncio, sys
from pannier.plugins import Plugins
from pannier.settlements import Settlement, Succeeded
from pannier.urls import StorageUrl
from pannier_testing.builders import T0, claim_of

async def main():
    storage = Plugins.installed().create_storage(StorageUrl(sys.argv[1]))
    await storage.open()
    while (claimed := await storage.claim_jobs(claim_of(limit=7))).jobs:
        print(*(job.tracking_id for job in claimed.jobs), sep="\\n")
        await storage.settle_jobs([Settlement(job.lease, Succeeded()) for job in claimed.jobs], now=T0)
    await storage.close()

asyncio.run(main())
"""


def test_a_lock_held_past_the_timeout_is_a_retryable_error(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Nothing was written, and the call works once the other program is done."""
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StorageBusyError, match=r"held the lock of .*jobs\.db") as caught:
        runner.run(storage.store_jobs([new_job(ids())]))
    waited = time.monotonic() - began
    other.execute("ROLLBACK")

    assert caught.value.retryable
    assert 0.2 <= waited < 2
    runner.run(storage.store_jobs([new_job(ids())]))
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


def test_a_lock_released_in_time_is_waited_for(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """No lock error surfaces before the timeout (R35), and the loop goes on meanwhile (R92)."""
    other.execute("BEGIN IMMEDIATE")

    async def play() -> list[UUID]:
        storing = asyncio.create_task(storage.store_jobs([job]))
        await asyncio.sleep(0.05)
        other.execute("COMMIT")
        return await storing

    job = new_job(ids())
    assert runner.run(play()) == [job.tracking_id]


def test_reading_does_not_wait_for_a_writer(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """A read sees what is committed while another program is writing."""
    job = new_job(ids())
    runner.run(storage.store_jobs([job]))
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM pannier_jobs")

    assert runner.run(storage.get_job(job.tracking_id)) == job
    other.execute("ROLLBACK")


def test_a_task_does_not_wait_for_its_own_transaction(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """A writing verb inside the transaction that was handed over is told so, instead of waiting in vain."""

    async def play() -> None:
        other.execute("BEGIN IMMEDIATE")
        await storage.store_jobs_in(other, [new_job(ids())])
        with pytest.raises(StorageBusyError, match="this task is in the transaction"):
            await storage.renew_leases([], now=T0, lease_for=LEASE)
        assert await storage.count_jobs(JobFilter()) == {}
        other.execute("COMMIT")
        await storage.renew_leases([], now=T0, lease_for=LEASE)

    runner.run(play())


def test_processes_share_a_backlog_out_without_an_error(
    runner: asyncio.Runner, storage: "SqliteStorage", path: Path, ids: NewId
) -> None:
    """Every job goes to one process, and no lock surfaces (R32, R35)."""
    jobs = [new_job(ids()) for _ in range(400)]
    runner.run(storage.store_jobs(jobs))
    command = [sys.executable, "-c", DRAINS, f"sqlite:///{path}?synchronous=normal"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [worker.communicate(timeout=60) for worker in workers]

    assert [errors for _, errors in ended] == ["", "", ""]
    assert Counter(line for out, _ in ended for line in out.split()) == Counter(str(job.tracking_id) for job in jobs)
    assert runner.run(storage.claim_jobs(claim_of())).jobs == ()
