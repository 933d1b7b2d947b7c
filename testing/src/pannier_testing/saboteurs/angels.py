"""Storages that are odd, and right: the whole suite must pass on them."""

import asyncio

from pannier.claims import Claim, Claimed
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import ANGEL, on_reference


@on_reference(ANGEL)
class AnswersInNoOrder(ReferenceProvider):
    """Gives the jobs of a claim in the reverse of their order."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Claim as always, and turn the answer round."""
        claimed = await super().claim_jobs(claim)
        return Claimed(jobs=claimed.jobs[::-1], next_due=claimed.next_due)


@on_reference(ANGEL)
class TakesItsTime(ReferenceProvider):
    """Waits a little before every claim."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Wait, then claim."""
        await asyncio.sleep(0.005)
        return await super().claim_jobs(claim)
