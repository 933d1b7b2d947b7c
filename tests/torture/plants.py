"""What the rig must find: SQLite storages that are wrong in one thing each, and workers that are."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import evolve

from pannier import JobRecord, JobStatus, hookimpl
from pannier.claims import Claim, Claimed
from pannier.errors import StorageUnavailableError
from pannier.inspection import JobFilter
from pannier.plugins import Plugins
from pannier.records import Lease
from pannier.settlements import Settlement, Succeeded
from pannier.storage import StorageAdapter, StorageUrl
from pannier.worker.keeper import Keeper
from pannier_testing.saboteurs.relay import Relay


class Honest(Relay):
    """Changes nothing."""


class LosesJobs(Relay):
    """Acknowledges jobs that it does not store."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        kept = [job for job in jobs if job.tracking_id.int % 20]
        await super().store_jobs(kept)
        return [job.tracking_id for job in jobs]


class AddsJobs(Relay):
    """Stores jobs that nobody asked for."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        more = [evolve(job, tracking_id=UUID(int=job.tracking_id.int ^ 1), idempotency_key=None) for job in jobs[:1]]
        await super().store_jobs(more)
        return await super().store_jobs(jobs)


class HasNoFences(Relay):
    """Settles a job under whatever fence it has."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        refused = await super().settle_jobs(settlements, now=now)
        for settlement in settlements:
            if settlement.lease in refused:
                job = await self.get_job(settlement.lease.tracking_id)
                if job is not None and job.status is JobStatus.RUNNING:
                    current = Lease(job.tracking_id, job.fence)
                    await super().settle_jobs([Settlement(current, settlement.outcome)], now=now)
        return frozenset()


class GivesOutTwice(Relay):
    """Takes leases for lapsed that are not."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        return await super().claim_jobs(evolve(claim, now=claim.now + 3 * claim.lease_for))

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        return await super().renew_leases(leases, now=now, lease_for=lease_for)


class KeepsNoResults(Relay):
    """Drops the result of every other job."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        poor = [
            evolve(each, outcome=Succeeded())
            if isinstance(each.outcome, Succeeded) and each.lease.tracking_id.int % 2
            else each
            for each in settlements
        ]
        return await super().settle_jobs(poor, now=now)


class Refuses(Relay):
    """Is out of reach for whoever wants to store something."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        raise StorageUnavailableError("there is nobody")


class IgnoresKeys(Relay):
    """Stores a key twice."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        return await super().store_jobs([evolve(job, idempotency_key=None) for job in jobs])


class Miscounts(Relay):
    """Counts a job too many."""

    async def count_jobs(self, wanted: JobFilter) -> Mapping[tuple[str, JobStatus], int]:
        counts = await super().count_jobs(wanted)
        return {key: count + (key[1] is JobStatus.SUCCEEDED) for key, count in counts.items()}


class StartsEarly(Relay):
    """Gives out what is due within a second."""

    async def claim_jobs(self, claim: Claim) -> Claimed:
        return await super().claim_jobs(evolve(claim, now=claim.now + timedelta(seconds=1)))


PLANTS: Final[Mapping[str, Callable[..., Relay]]] = {
    "honest": Honest,
    "loses-jobs": LosesJobs,
    "adds-jobs": AddsJobs,
    "has-no-fences": HasNoFences,
    "gives-out-twice": GivesOutTwice,
    "keeps-no-results": KeepsNoResults,
    "ignores-keys": IgnoresKeys,
    "refuses": Refuses,
    "miscounts": Miscounts,
    "starts-early": StartsEarly,
}


class Plugin:
    """Offers each of them under its name as a scheme."""

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        return [_adapter(name, kind) for name, kind in PLANTS.items()]


def _adapter(name: str, kind: Callable[..., Relay]) -> StorageAdapter:
    def real(url: StorageUrl) -> StorageUrl:
        return StorageUrl(f"sqlite://{url.text.removeprefix(f'{name}://')}")

    def create(url: StorageUrl) -> Relay:
        return kind(Plugins.installed().create_storage(real(url)), url)

    async def destroy(url: StorageUrl) -> None:
        await Plugins.installed().adapter_for(real(url)).destroy(real(url))

    return StorageAdapter(name=name, schemes=(name,), create=create, destroy=destroy)


plugin = Plugin()


def outlive_leases() -> None:
    """Make a worker that neither renews its leases nor stops handlers in time."""

    async def renew(keeper: Keeper) -> None:
        keeper._renew_at += timedelta(seconds=0.1)

    Keeper._renew_all = renew  # type: ignore[assignment, method-assign]
    Keeper._watch = lambda keeper: None  # type: ignore[assignment, method-assign]
