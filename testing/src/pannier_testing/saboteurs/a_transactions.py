"""Storages that break what R9 and R39 say of the caller's own transaction."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

from attrs import define, field

from pannier.errors import LeaseLostError, StorageBusyError
from pannier.records import JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay


@on_sqlite("R9")
class CommitsForTheCaller(TransactionalRelay):
    """Commits the caller's transaction once its jobs are stored."""

    async def store_jobs_in(self, transaction: object, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store, commit, and begin anew."""
        standing = await super().store_jobs_in(transaction, jobs)
        assert isinstance(transaction, sqlite3.Connection)
        transaction.execute("COMMIT")
        transaction.execute("BEGIN IMMEDIATE")
        return standing


@on_sqlite("R9")
class AbortsForADuplicate(TransactionalRelay):
    """Lets a duplicate undo what the caller's transaction has done."""

    async def store_jobs_in(self, transaction: object, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Roll back where something stood already."""
        standing = await super().store_jobs_in(transaction, jobs)
        assert isinstance(transaction, sqlite3.Connection)
        if standing != [job.tracking_id for job in jobs]:
            transaction.execute("ROLLBACK")
            transaction.execute("BEGIN IMMEDIATE")
        return standing


@on_sqlite("R9")
class RaisesForADuplicate(TransactionalRelay):
    """Raises where a key stood already."""

    async def store_jobs_in(self, transaction: object, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Take a duplicate for a mistake."""
        standing = await super().store_jobs_in(transaction, jobs)
        if standing != [job.tracking_id for job in jobs]:
            raise ValueError("UNIQUE constraint failed")
        return standing


@on_sqlite("R9")
class SaysNothingOfLostLeases(TransactionalRelay):
    """Leaves out what was refused, and lets the caller commit."""

    async def settle_jobs_in(self, transaction: object, settlements: Sequence[Settlement], *, now: datetime) -> None:
        """Suppress what should be raised."""
        with suppress(LeaseLostError):
            await super().settle_jobs_in(transaction, settlements, now=now)


@on_sqlite("R9")
class NamesEveryLease(TransactionalRelay):
    """Says of a whole batch that its leases are lost, where one of them is."""

    async def settle_jobs_in(self, transaction: object, settlements: Sequence[Settlement], *, now: datetime) -> None:
        """Name too many."""
        try:
            await super().settle_jobs_in(transaction, settlements, now=now)
        except LeaseLostError as error:
            raise LeaseLostError(tuple(s.lease.tracking_id for s in settlements)) from error


@on_sqlite("R39")
class SaysThatItRenewed(TransactionalRelay):
    """Says that leases were renewed where another writer held the file too long."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Let the heartbeat go on."""
        try:
            return await super().renew_leases(leases, now=now, lease_for=lease_for)
        except StorageBusyError:
            return frozenset()


@define(eq=False)
class OpenTransaction:
    """A transaction in memory: what it settles is held until it ends, and applied when it commits."""

    shelf: Shelf
    settlements: list[Settlement] = field(factory=list[Settlement])
    jobs: list[JobRecord] = field(factory=list[JobRecord])
    now: datetime | None = None


@asynccontextmanager
async def begin(shelf: Shelf) -> AsyncIterator[object]:
    """Open a transaction on *shelf*."""
    transaction = OpenTransaction(shelf)
    held: list[OpenTransaction] = shelf.__dict__.setdefault("open", [])
    held.append(transaction)
    try:
        yield transaction
        shelf.model.store(transaction.jobs)
        if transaction.now is not None:
            shelf.model.settle(transaction.settlements, transaction.now)
    finally:
        held.remove(transaction)


class TransactionalReference(ReferenceProvider):
    """The reference with the add-on "transactions"."""

    async def store_jobs_in(self, transaction: OpenTransaction, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Store when the transaction commits."""
        transaction.jobs += jobs
        return [self.shelf.model.standing(job) or job.tracking_id for job in jobs]

    async def settle_jobs_in(
        self, transaction: OpenTransaction, settlements: Sequence[Settlement], *, now: datetime
    ) -> None:
        """Settle when the transaction commits."""
        lost = [s.lease.tracking_id for s in settlements if not self.shelf.model.holds(s.lease)]
        if lost:
            raise LeaseLostError(tuple(lost))
        transaction.settlements += settlements
        transaction.now = now

    def held(self) -> set[Lease]:
        """Return the leases that open transactions are settling."""
        transactions: list[OpenTransaction] = self.shelf.__dict__.get("open", [])
        return {settlement.lease for transaction in transactions for settlement in transaction.settlements}


@on_reference("R39", begin=begin)
class WaitsForOpenSettlements(TransactionalReference):
    """Lets a whole renewal wait for a lease that an open transaction is settling."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Wait for the lock."""
        while not self.held().isdisjoint(leases):  # noqa: ASYNC110  # as a database waits for a lock
            await asyncio.sleep(0.01)
        return await super().renew_leases(leases, now=now, lease_for=lease_for)


@on_reference("R39", begin=begin)
class LosesWhatIsBeingSettled(TransactionalReference):
    """Says of a lease that an open transaction is settling that it is lost."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Skip what is locked, and count it as lost."""
        skipped = frozenset(self.held().intersection(leases))
        free = [lease for lease in leases if lease not in skipped]
        return skipped | await super().renew_leases(free, now=now, lease_for=lease_for)
