"""Storages that break a rule of section E by what they write beside the end of a lease, or without a second look."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

from attrs import evolve

from pannier.claims import Claim
from pannier.records import JobRecord, JobStatus, Lease, Payload
from pannier.settlements import Outcome, Release
from pannier_testing.reference.model import Model
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_model, on_reference


@on_model("R38")
class ForgetsTheErrorsOfTheDead(Model):
    """Clears the errors of a job that it takes over, as if it began anew."""

    def leased(self, job: JobRecord, claim: Claim) -> JobRecord:
        """Lease, and clear."""
        leased = super().leased(job, claim)
        return evolve(leased, errors=()) if job.status is JobStatus.RUNNING else leased


class ChangesWhatItRenews(Model):
    """Writes more than the end of a lease."""

    def changed(self, job: JobRecord) -> JobRecord:
        """Return what a renewed job becomes."""
        raise NotImplementedError

    def renew(self, leases: Iterable[Lease], now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Renew, and change."""
        asked = list(leases)
        lost = super().renew(asked, now, lease_for)
        for lease in set(asked) - lost:
            self.put(self.changed(self.jobs[lease.tracking_id]))
        return lost


@on_model("R39")
class ForgivesLapsesOnRenewal(ChangesWhatItRenews):
    """Sets the lapses of a job to 0 as soon as its new holder renews."""

    def changed(self, job: JobRecord) -> JobRecord:
        """Take the new holder to be alive."""
        return evolve(job, lapses=0)


@on_model("R39")
class ClearsProgressOnRenewal(ChangesWhatItRenews):
    """Writes a renewal with the progress that came along, which is none."""

    def changed(self, job: JobRecord) -> JobRecord:
        """Clear it."""
        return evolve(job, progress=None)


@on_model("R39")
class RenewsUpToTheExpiry(ChangesWhatItRenews):
    """Lets a lease end with its job's expiry, at the latest."""

    def changed(self, job: JobRecord) -> JobRecord:
        """Take the earlier end."""
        return evolve(job, dequeue_after=min(job.dequeue_after, job.expire_on or job.dequeue_after))


@on_model("R40")
class ExpiresWhatIsReleasedLate(Model):
    """Marks a job EXPIRED when it is released past its expiry, by the settlement."""

    def settled(self, job: JobRecord, outcome: Outcome, now: datetime) -> JobRecord:
        """Spare the purge the work."""
        after = super().settled(job, outcome, now)
        is_late = isinstance(outcome, Release) and not self.is_fresh(job, now)
        return evolve(after, status=JobStatus.EXPIRED, finished_at=now) if is_late else after


@on_reference("R44")
class LosesAnEndToProgress(ReferenceProvider):
    """Stores progress by writing the whole row as it was read before an await."""

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Read, await, write."""
        held = self._do(lambda model: model.jobs[lease.tracking_id] if model.holds(lease) else None)
        await asyncio.sleep(0)
        if held is not None:
            self._do(lambda model: model.put(evolve(held, progress=progress)))
        return held is not None


@on_reference("R44")
class ReportsAfterALook(ReferenceProvider):
    """Looks whether a lease stands, awaits, and stores progress whatever has become of the job."""

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Look, await, write."""
        is_held = self._do(lambda model: model.holds(lease))
        await asyncio.sleep(0)
        if is_held:
            self._do(lambda model: model.put(evolve(model.jobs[lease.tracking_id], progress=progress)))
        return is_held
