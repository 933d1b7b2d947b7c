"""Storages that break a rule of section D."""

import asyncio

from pannier.records import Claim, Claimed
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay


@on_reference("R30")
class LeasesWithoutASecondLook(ReferenceProvider):
    """Chooses jobs, awaits, and then leases what it chose, whoever has it by now."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Select, await, update without a guard."""
        chosen = self._do(lambda model: model.choose(claim))
        await asyncio.sleep(0)
        return self._do(lambda model: model.grant(chosen, claim))


@on_sqlite("R30")
class SharesItsAnswers(TransactionalRelay):
    """Gives a claim that comes while another is under way that one's answer."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._running: asyncio.Task[Claimed] | None = None

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Coalesce claims as one coalesces reads."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self.inner.claim_jobs(claim))
        return await asyncio.shield(self._running)
