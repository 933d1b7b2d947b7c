"""Claiming."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from pannier.claims import Claim, Claimed, Unreadable
from pannier.records import JobRecord, Lease
from pannier_postgres._connection import Connection
from pannier_postgres._rows import check_text, to_claimed_job

CROWD: Final = 1000
"""How many expired jobs are so many that they are marked before anything is claimed."""

SWEEPS: Final = 10
"""How many crowds one claim clears away at most before it answers that there is more to ask for."""

WANTED_MAX: Final = 2**31 - 1

_BATCH: Final = 500
"""How many rows are turned into records before others may run: 5 ms."""


def check_claim(claim: Claim) -> None:
    """
    Refuse names that can't be stored.

    Raises:
        UnstorableError: The worker's id, or a queue's, holds what text can't.
    """
    check_text(claim.worker_id, "worker_id", None)
    for demand in claim.demands:
        for queue_id in demand.queue_ids:
            check_text(queue_id, "queue_id", None)


async def claim_jobs(
    connection: Connection, sql: Mapping[str, str], claim: Claim, *, lease_end: datetime, settling: Sequence[UUID]
) -> Sequence[Record]:
    """
    Lease due jobs; return the rows of sql/claim_jobs.sql: the claim's own answer, then the jobs.

    Expired jobs that wait are marked on the way, so that no claim has to pass over many of them twice (R119). Lapsed
    leases of *settling* are not taken: this instance is about to settle them.
    """
    asked = [
        (number, queue_id, min(demand.limit, WANTED_MAX))
        for number, demand in enumerate(claim.demands)
        for queue_id in demand.queue_ids
    ]
    numbers, queue_ids, limits = map(list, zip(*asked, strict=True)) if asked else ([], [], [])
    for _ in range(SWEEPS):
        rows = await connection.fetch(
            sql["claim_jobs"], numbers, queue_ids, limits, claim.now, lease_end, claim.worker_id, CROWD, settling
        )
        expired: int = rows[0]["expired"]
        if expired:
            await connection.fetchrow(sql["expire_jobs"], queue_ids, claim.now, CROWD)
        if expired < CROWD:
            break
    return rows


async def to_claimed(rows: Sequence[Record], claim: Claim, *, lease_end: datetime) -> Claimed:
    """Return what the claim took."""
    next_due = rows[0]["next_due"]
    jobs: list[JobRecord] = []
    unreadable: list[Unreadable] = []
    for position, row in enumerate(rows[1:], start=1):
        if position % _BATCH == 0:
            await asyncio.sleep(0)
        try:
            jobs.append(to_claimed_job(row, worker_id=claim.worker_id, lease_end=lease_end))
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # damaged by another hand (R56)
            unreadable.append(_unreadable(row, error))
    if next_due is not None and next_due - claim.now > claim.look_ahead:
        next_due = None
    return Claimed(jobs=tuple(jobs), unreadable=tuple(unreadable), next_due=next_due)


def _unreadable(row: Record, error: Exception) -> Unreadable:
    reason = f"what is stored can't be read: {type(error).__name__}: {error}"
    return Unreadable(Lease(row["tracking_id"], row["fence"]), row["queue_id"], reason)
