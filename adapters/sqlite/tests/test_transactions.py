"""Storing and settling in the caller's own transaction (R9)."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pannier.errors import LeaseLostError, StorageConflictError, UnstorableError, UsageError
from pannier.inspection import JobFilter
from pannier.records import JobStatus, Lease
from pannier.settlements import Settlement, Succeeded
from pannier_testing.builders import QUEUE, T0, claim_of, new_job

if TYPE_CHECKING:
    from pannier_sqlite.provider import SqliteStorage

NewId = Callable[[], UUID]


def test_a_job_stored_in_a_transaction_is_there_from_the_commit_on(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Nobody sees it before, and an expected duplicate leaves the transaction usable."""
    job, keyed = new_job(ids()), new_job(ids(), key="k")
    other.row_factory = sqlite3.Row
    other.text_factory = bytes
    other.execute("BEGIN IMMEDIATE")
    assert runner.run(storage.store_jobs_in(other, [job, keyed])) == [job.tracking_id, keyed.tracking_id]
    assert runner.run(storage.store_jobs_in(other, [new_job(ids(), key="k")])) == [keyed.tracking_id]
    assert runner.run(storage.get_job(job.tracking_id)) is None
    other.execute("COMMIT")

    assert runner.run(storage.get_job(job.tracking_id)) == job
    assert other.text_factory is bytes


def test_a_rollback_leaves_nothing(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """The jobs go with the rest of the transaction."""
    other.execute("BEGIN IMMEDIATE")
    runner.run(storage.store_jobs_in(other, [new_job(ids())]))
    other.execute("ROLLBACK")

    assert runner.run(storage.count_jobs(JobFilter())) == {}


def test_a_settlement_commits_with_the_caller_s_effects(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Both stand, or neither."""
    runner.run(storage.store_jobs([new_job(ids())]))
    (job,) = runner.run(storage.claim_jobs(claim_of())).jobs
    other.execute("CREATE TABLE effects (what)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO effects VALUES ('paid')")
    runner.run(storage.settle_jobs_in(other, [Settlement(job.lease, Succeeded())], now=T0))
    other.execute("COMMIT")

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.SUCCEEDED): 1}


def test_a_lost_lease_raises_and_settles_nothing_of_its_batch(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """A caller that commits all the same has at least no half of a batch."""
    runner.run(storage.store_jobs([new_job(ids()), new_job(ids())]))
    good, stale = runner.run(storage.claim_jobs(claim_of(limit=2))).jobs
    batch = [Settlement(good.lease, Succeeded()), Settlement(Lease(stale.tracking_id, 9), Succeeded())]
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LeaseLostError) as caught:
        runner.run(storage.settle_jobs_in(other, batch, now=T0))
    other.execute("COMMIT")

    assert caught.value.tracking_ids == (stale.tracking_id,)
    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.RUNNING): 2}


def test_a_job_that_can_t_be_stored_leaves_the_transaction_usable(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """It is refused before anything of its batch is written."""
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnstorableError):
        runner.run(storage.store_jobs_in(other, [new_job(ids()), new_job(ids(), "\udc80")]))
    runner.run(storage.store_jobs_in(other, [new_job(ids())]))
    other.execute("COMMIT")

    assert runner.run(storage.count_jobs(JobFilter())) == {(QUEUE, JobStatus.PENDING): 1}


def test_a_connection_without_a_transaction_is_refused(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """Each statement would commit for itself."""
    with pytest.raises(UsageError, match="execute BEGIN IMMEDIATE first"):
        runner.run(storage.store_jobs_in(other, [new_job(ids())]))


def test_a_connection_to_another_file_is_refused(runner: asyncio.Runner, storage: "SqliteStorage", ids: NewId) -> None:
    """What is stored there would never be found."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as elsewhere:
        elsewhere.execute("BEGIN")
        with pytest.raises(UsageError, match="database in memory"):
            runner.run(storage.store_jobs_in(elsewhere, [new_job(ids())]))


def test_a_transaction_that_has_read_old_data_is_told_how_to_begin(
    runner: asyncio.Runner, storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId
) -> None:
    """A deferred transaction can't be upgraded once somebody else has written; that is a conflict, to be tried anew."""
    other.execute("BEGIN")
    other.execute("SELECT * FROM pannier_jobs").fetchall()
    runner.run(storage.store_jobs([new_job(ids())]))
    with pytest.raises(StorageConflictError, match="BEGIN IMMEDIATE"):
        runner.run(storage.store_jobs_in(other, [new_job(ids())]))
    other.execute("ROLLBACK")


def test_nothing_is_awaited_inside(storage: "SqliteStorage", other: sqlite3.Connection, ids: NewId) -> None:
    """The verb never suspends, so that code without an event loop can drive it."""
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StopIteration):
        storage.store_jobs_in(other, [new_job(ids())]).send(None)
    other.execute("COMMIT")

    assert other.execute("SELECT count(*) FROM pannier_jobs").fetchone() == (1,)
