"""Settling, renewing and reporting: every write that needs a lease."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from asyncpg import Record
from attrs import define, field

from pannier.errortext import dump_error
from pannier.records import JobStatus, Lease, Payload
from pannier.settlements import Failed, Outcome, Release, Retry, Settlement, Succeeded
from pannier_postgres._connection import AnyConnection, Connection, transaction
from pannier_postgres._rows import columns_of, from_payload, shared_columns_of

FENCES: Final = range(1, 2**63)
"""The fences that a column can hold; a lease with another never was."""

RENEWALS: Final = 3
"""How often a lease is tried whose job somebody has locked: most locks are gone in a moment."""

RENEWAL_PAUSE_SECONDS: Final = 0.01


@define
class Batch:
    """
    Settlements of different leases, sorted by what is to be written: the rows of one statement each.

    Attributes:
        given: The settlements, by lease.
        refused: Leases that no job can have.
    """

    given: dict[Lease, Settlement]
    succeeded: list[tuple[UUID, int, str | None, str | None, bytes | None]] = field(factory=list)
    retried: list[tuple[UUID, int, str, datetime]] = field(factory=list)
    failed: list[tuple[UUID, int, str]] = field(factory=list)
    released: list[tuple[UUID, int]] = field(factory=list)
    refused: set[Lease] = field(factory=set[Lease])

    @property
    def statements(self) -> int:
        """How many statements it takes; what is retried too late takes another one."""
        return bool(self.succeeded) + 2 * bool(self.retried) + bool(self.failed) + bool(self.released)

    def add(self, lease: Lease, outcome: Outcome) -> None:
        """
        Sort in what is given for *lease*.

        Raises:
            UnstorableError: Its result can't be held.
        """
        tracking_id, fence = lease.tracking_id, lease.fence
        if fence not in FENCES:
            self.refused.add(lease)
            return
        match outcome:
            case Succeeded(result=result):
                columns = (None, None, None) if result is None else from_payload(result, tracking_id)
                self.succeeded.append((tracking_id, fence, *columns))
            case Retry(at=at, error=error):
                self.retried.append((tracking_id, fence, dump_error(error), at))
            case Failed(error=error):
                self.failed.append((tracking_id, fence, dump_error(error)))
            case Release():
                self.released.append((tracking_id, fence))
            case _:
                assert_never(outcome)

    async def apply(self, connection: AnyConnection, sql: Mapping[str, str], now: datetime) -> frozenset[Lease]:
        """Write it; return the refused leases."""
        missed = await _write(connection, sql["succeed_jobs"], self.succeeded, now, columns=shared_columns_of)
        late = await _write(connection, sql["retry_jobs"], self.retried)
        overdue = [row[:3] for row in self.retried if Lease(row[0], row[1]) in late]  # or their leases do not stand
        missed |= await _write(connection, sql["fail_jobs"], self.failed + overdue, now)
        missed |= await _write(connection, sql["release_jobs"], self.released)
        if not missed:
            return frozenset(self.refused)
        rows = await connection.fetch(sql["read_states"], [lease.tracking_id for lease in missed])
        states = {UUID(row["tracking_id"]): row for row in rows}
        standing = (lease for lease in missed if _is_repeat(self.given[lease], states.get(lease.tracking_id)))
        return frozenset(self.refused | missed.difference(standing))


def batches_of(settlements: Sequence[Settlement]) -> list[Batch]:
    """
    Sort *settlements* into batches, to be applied one after another: more than one only where a lease comes again.

    Raises:
        UnstorableError: A result can't be held.
    """
    return [_batch(given) for given in _rounds(settlements)]


async def settle(
    connection: AnyConnection, sql: Mapping[str, str], batches: Sequence[Batch], now: datetime
) -> frozenset[Lease]:
    """Apply *batches*, all or nothing; return the refused leases."""
    if sum(batch.statements for batch in batches) == 1:  # which is a transaction of its own
        return await batches[0].apply(connection, sql, now)
    async with transaction(connection):
        refused = [await batch.apply(connection, sql, now) for batch in batches]
    return frozenset().union(*refused)


def gives_back(settlement: Settlement) -> bool:
    """Whether *settlement* makes its job PENDING again."""
    return isinstance(settlement.outcome, Retry | Release)


async def renew(
    connection: Connection, sql: Mapping[str, str], leases: Collection[Lease], end: datetime
) -> frozenset[Lease]:
    """
    Move the ends of *leases*; return those that no longer stand.

    Whose job stays locked is neither renewed nor lost: somebody is settling it in a transaction of his own (R39).
    """
    lost = {lease for lease in leases if lease.fence not in FENCES}
    left = sorted(set(leases) - lost, key=_order)
    for attempt in range(RENEWALS):
        if attempt:
            await asyncio.sleep(RENEWAL_PAUSE_SECONDS)
        missed = await _write(
            connection, sql["renew_leases"], [(lease.tracking_id, lease.fence) for lease in left], end
        )
        if not missed:
            break
        rows = await connection.fetch(sql["read_states"], [lease.tracking_id for lease in missed])
        running = {(UUID(row["tracking_id"]), row["fence"]) for row in rows if row["status"] == JobStatus.RUNNING}
        left = sorted((lease for lease in missed if (lease.tracking_id, lease.fence) in running), key=_order)
        lost |= missed.difference(left)
    return frozenset(lost)


async def store_progress(connection: Connection, sql: Mapping[str, str], lease: Lease, progress: Payload) -> bool:
    """
    Keep *progress*, if *lease* stands.

    Raises:
        UnstorableError: It can't be held.
    """
    columns = from_payload(progress, lease.tracking_id)
    if lease.fence not in FENCES:
        return False
    return await connection.fetchval(sql["store_progress"], lease.tracking_id, lease.fence, *columns) is not None


def _rounds(settlements: Sequence[Settlement]) -> list[dict[Lease, Settlement]]:
    """Return *settlements* by lease, each lease's second one in a second round and so on."""
    given = {settlement.lease: settlement for settlement in settlements}
    if len(given) == len(settlements):  # hashing a lease takes 0.6 us: once is enough where none comes again
        return [given]
    rounds: list[dict[Lease, Settlement]] = []
    for settlement in settlements:
        given = next((given for given in rounds if settlement.lease not in given), {})
        if not given:
            rounds.append(given)
        given[settlement.lease] = settlement
    return rounds


def _batch(given: dict[Lease, Settlement]) -> Batch:
    batch = Batch(given)
    for lease, settlement in given.items():
        batch.add(lease, settlement.outcome)
    return batch


async def _write(
    connection: AnyConnection,
    statement: str,
    rows: Sequence[tuple[UUID, int, *tuple[object, ...]]],
    *more: datetime,
    columns: Callable[[Sequence[tuple[object, ...]]], Iterable[Sequence[object]]] = columns_of,
) -> set[Lease]:
    """Run *statement* on *rows*, in the order of their tracking ids, so that no two of these wait for each other."""
    if not rows:
        return set()
    rows = sorted(rows, key=lambda row: row[0].int)
    positions = await connection.fetchval(statement, *columns(rows), *more)
    return {Lease(*rows[position - 1][:2]) for position in positions}


def _order(lease: Lease) -> int:
    return lease.tracking_id.int


def _is_repeat(settlement: Settlement, state: Record | None) -> bool:
    """Whether the effect of *settlement* stands already: same fence, and the status that it leads to (R50)."""
    if state is None or state["fence"] != settlement.lease.fence:
        return False
    status, expire_on = state["status"], state["expire_on"]
    match settlement.outcome:
        case Succeeded():
            return bool(status == JobStatus.SUCCEEDED)
        case Failed():
            return bool(status == JobStatus.FAILED)
        case Release():
            return bool(status == JobStatus.PENDING)
        case Retry(at=at):
            is_late = expire_on is not None and expire_on <= at
            return bool(status == (JobStatus.FAILED if is_late else JobStatus.PENDING))
        case _:
            assert_never(settlement.outcome)
