"""Storages that break R91: one call's answer is older than what another one was told before."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pannier.records import JobRecord, Lease
from pannier.settlements import Settlement
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference


@on_reference("R91")
class ReadsFromACache(ReferenceProvider):
    """Remembers a job that it was asked for while another call is under way."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._cached: dict[UUID, JobRecord | None] = {}
        self._under_way = 0

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up, in the cache first."""
        if self._under_way and tracking_id in self._cached:
            return self._cached[tracking_id]
        self._cached[tracking_id] = await super().get_job(tracking_id)
        return self._cached[tracking_id]

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle, in two steps."""
        self._under_way += 1
        await asyncio.sleep(0)
        refused = await super().settle_jobs(settlements, now=now)
        await asyncio.sleep(0)
        self._under_way -= 1
        return refused


@on_reference("R91")
class AnswersBeforeItSettles(ReferenceProvider):
    """Says at once what a settlement will come to, and applies it a moment later."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Look whether the leases stand, and leave the rest to a callback."""
        leases = [settlement.lease for settlement in settlements]
        stale = self._do(lambda model: [lease for lease in leases if not model.holds(lease)])
        kept = [settlement for settlement in settlements if settlement.lease not in stale]
        refused = await super().settle_jobs([s for s in settlements if s.lease in stale], now=now)
        asyncio.get_running_loop().call_soon(lambda: self._do(lambda model: model.settle(kept, now)) and None)
        await asyncio.sleep(0)
        return refused
