"""Storages that break a rule of section A."""

from datetime import datetime
from uuid import UUID

from pannier.records import Cancellation, JobRecord
from pannier_testing.reference.loopback import LoopbackProvider
from pannier_testing.saboteurs.making import on_loopback, on_memory
from pannier_testing.saboteurs.relay import Relay


@on_memory("R8")
class CancelsAsIfEveryJobWereThere(Relay):
    """Says CANCELLED of a job that was never stored."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Answer without a look at what was found."""
        await self.inner.cancel_job(tracking_id, now=now)
        return Cancellation.CANCELLED


@on_loopback("R8")
class RaisesForUnknownJobs(LoopbackProvider):
    """Raises KeyError where get_job should answer None."""

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Look a job up as one looks into a dict."""
        job = await super().get_job(tracking_id)
        if job is None:
            raise KeyError(tracking_id)
        return job
