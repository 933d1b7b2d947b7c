"""
Storing new jobs.

Jobs without a key go one way, those with one another: an INSERT waits for whoever is about to store the same key, and
nobody else should have to (R122).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from pannier.records import JobRecord
from pannier_postgres._connection import AnyConnection, transaction
from pannier_postgres._rows import NewRow, columns_of, from_job, similar_of

CHUNK_ROWS: Final = 1000
"""Jobs in one statement: more gain nothing, and the loop would stand still while they are written out."""

CHUNK_CHARACTERS: Final = 32 * 1024 * 1024
"""Payload in one statement; a message of the protocol has 1 GB at most."""


async def encode(jobs: Sequence[JobRecord]) -> list[NewRow]:
    """
    Return the rows of *jobs*. Lets others run between many.

    Raises:
        UnstorableError: One can't be held.
    """
    rows: list[NewRow] = []
    for start in range(0, len(jobs), CHUNK_ROWS):
        if start:
            await asyncio.sleep(0)
        rows += map(from_job, jobs[start : start + CHUNK_ROWS])
    return rows


async def insert(connection: AnyConnection, sql: Mapping[str, str], rows: Sequence[NewRow]) -> Sequence[int]:
    """Insert *rows* in one statement. Return the positions of those whose tracking id or key was there."""
    if len(rows) == 1:
        return await _insert_one(connection, sql, rows[0])
    row = await connection.fetchrow(sql["store_jobs"], *columns_of(rows))
    return [] if row is None or row["standing"] is None else [position - 1 for position in row["standing"]]


async def insert_unkeyed(connection: AnyConnection, sql: Mapping[str, str], rows: Sequence[NewRow]) -> None:
    """Insert jobs that have no key, all or none. Each tracking id stands afterwards, whoever stored it."""
    chunks = list(chunked(rows))
    if len(chunks) == 1:
        await _insert_unasked(connection, sql, chunks[0])
        return
    async with transaction(connection):
        for chunk in chunks:
            await _insert_unasked(connection, sql, chunk)


async def insert_keyed(connection: AnyConnection, sql: Mapping[str, str], rows: Sequence[NewRow]) -> list[UUID]:
    """Insert jobs, some of which have a key, all or none. Return the ids that stand."""
    if len(rows) == 1:
        return await _insert_standing(connection, sql, rows)
    standing: list[UUID] = []
    async with transaction(connection):
        for part in _without_repeats(rows):
            for chunk in chunked(part):
                standing += await _insert_standing(connection, sql, chunk)
    return standing


def chunked(rows: Sequence[NewRow]) -> Iterator[Sequence[NewRow]]:
    """Cut *rows* into what one statement takes."""
    if len(rows) == 1:
        yield rows
        return
    chunk: list[NewRow] = []
    characters = 0
    for row in rows:
        characters += row.weight
        if chunk and (len(chunk) == CHUNK_ROWS or characters > CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = [], row.weight
        chunk.append(row)
    if chunk:
        yield chunk


def share(row: NewRow) -> float:
    """Return what part of a statement *row* fills."""
    return 1 / CHUNK_ROWS + row.weight / CHUNK_CHARACTERS


async def _insert_one(connection: AnyConnection, sql: Mapping[str, str], row: NewRow) -> Sequence[int]:
    """
    Insert *row*; return as `insert`.

    A statement of its own, which writes out no arrays and has a plan of one step: 245 us for 300, waits for the disk
    included.
    """
    return [0] if await connection.fetchrow(sql["store_job"], *row) is None else []


async def _insert_unasked(connection: AnyConnection, sql: Mapping[str, str], rows: Sequence[NewRow]) -> None:
    """Insert *rows*, of which nobody asks whether they were there."""
    similar = similar_of(rows) if len(rows) > 1 else None
    if similar is None:
        await insert(connection, sql, rows)
    else:
        await connection.execute(sql["store_similar_jobs"], *similar)


def _without_repeats(rows: Sequence[NewRow]) -> Iterator[Sequence[NewRow]]:
    """Cut *rows* where a tracking id comes again: which of its jobs stands depends on what was stored between (R5)."""
    start, seen = 0, set[UUID]()
    for position, row in enumerate(rows):
        if row.tracking_id in seen:
            yield rows[start:position]
            start, seen = position, set()
        seen.add(row.tracking_id)
    yield rows[start:]


async def _insert_standing(connection: AnyConnection, sql: Mapping[str, str], rows: Sequence[NewRow]) -> list[UUID]:
    """
    Insert *rows*, no tracking id of which comes twice, and return the ids that stand.

    What stands in the way is looked up in a statement of its own: that of the INSERT does not see whom it has waited
    for. Where it is gone by then, purged in between, the INSERT is tried again (R16).
    """
    standing = [row.tracking_id for row in rows]
    # Those who store the same keys in another order would wait for each other. sorted() keeps the first of a key first.
    left = sorted(range(len(rows)), key=lambda position: (rows[position].queue_id, rows[position].key or ""))
    while left:
        refused = await insert(connection, sql, [rows[position] for position in left])
        left = [left[position] for position in refused]
        if not left:
            break
        ids, queue_ids, keys = zip(*((rows[p].tracking_id, rows[p].queue_id, rows[p].key) for p in left), strict=True)
        found = await connection.fetch(sql["find_standing_jobs"], ids, queue_ids, keys)
        for position, (tracking_id,) in zip(left, found, strict=True):
            if tracking_id is not None:
                standing[position] = UUID(tracking_id)
        left = [position for position, (tracking_id,) in zip(left, found, strict=True) if tracking_id is None]
    return standing
