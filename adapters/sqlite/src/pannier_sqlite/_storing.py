"""Storing new jobs."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import TypeAlias
from uuid import UUID

from pannier.records import JobRecord
from pannier.storage import check_new_jobs
from pannier_sqlite import _rows
from pannier_sqlite._rows import Value
from pannier_sqlite._statements import statement
from pannier_sqlite._thread import Work

_Insert: TypeAlias = tuple[str, list[tuple[Value, ...]]]
"""A statement, and the rows of parameters that it is executed with."""


def store_jobs(jobs: Sequence[JobRecord]) -> Work[list[UUID]]:
    """
    Check and encode *jobs*. What is returned stores them, and returns the ids that stand (R7, R10).

    Raises:
        ValueError: One is not new.
        UnstorableError: One can't be held.
    """
    check_new_jobs(jobs)
    if any(job.idempotency_key is not None for job in jobs):
        rows = [_rows.from_job(job) for job in jobs]
        return lambda connection: [_insert(connection, job, row) for job, row in zip(jobs, rows, strict=True)]
    inserts = list(_inserts(jobs))
    ids = [job.tracking_id for job in jobs]
    return lambda connection: _insert_all(connection, inserts, ids)


def _inserts(jobs: Sequence[JobRecord]) -> Iterator[_Insert]:
    """
    Return what stores *jobs* that have no key, in their order, since the first of an id stands (R5).

    Jobs that differ in nothing but id and command, as a batch of one kind does, go in by statements of `_rows.ALIKE`:
    5.9 us a job with the commit, where one row a step takes 9.0: it is bound whole, and gives the GIL away each time.
    """
    for _, alike in groupby(jobs, _rows.common_of):
        group = list(alike)
        common, own = _rows.from_common(group[0]), list(chain.from_iterable(map(_rows.from_own, group)))
        whole = len(group) - len(group) % _rows.ALIKE
        if whole:
            parts = (own[2 * first : 2 * (first + _rows.ALIKE)] for first in range(0, whole, _rows.ALIKE))
            yield statement("store_alike_jobs"), [(*common, *part) for part in parts]
        if whole < len(group):
            pairs = zip(own[2 * whole :: 2], own[2 * whole + 1 :: 2], strict=True)
            yield statement("store_job"), [(*pair, *common) for pair in pairs]


def _insert_all(connection: sqlite3.Connection, inserts: Sequence[_Insert], ids: list[UUID]) -> list[UUID]:
    """Insert jobs without keys: whether one is new or was known before, its own id stands."""
    for sql, rows in inserts:
        connection.executemany(sql, rows)
    return ids


def _insert(connection: sqlite3.Connection, job: JobRecord, row: tuple[Value, ...]) -> UUID:
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller's own connection may have one
    if cursor.execute(statement("store_job"), row).rowcount == 1:
        return job.tracking_id
    (standing,) = cursor.execute(statement("find_standing_job"), (row[0], job.queue_id, job.idempotency_key)).fetchone()
    return _rows.to_id(standing)
