"""
A storage that writes into the journal what it is asked and what it answers, before and after each call that changes it.

It stands between the engine and the storage, so the journal holds what the engine was told: a claim, a renewal or a
settlement counts once its answer is written there.
"""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Final, TypeVar
from uuid import UUID

from attrs import evolve

from pannier.claims import Claim, Claimed
from pannier.errors import StorageError
from pannier.hookspecs import hookimpl
from pannier.plugins import Plugins
from pannier.records import Cancellation, JobRecord, Json, Lease
from pannier.settlements import Settlement
from pannier.storage import Capabilities, JobStorageProvider, StorageAdapter, add_ons
from pannier.urls import StorageUrl
from pannier_testing.saboteurs.relay import Relay
from pannier_testing.torture.ground import Journal

T = TypeVar("T")

SCHEME: Final = "witnessed"
RELAYED: Final = frozenset({"results", "inspect", "notify"})
"""The add-ons that a witness hands on where the storage has them; the engine has no use for transactions."""


class WitnessPlugin:
    """Offers every storage under a URL of its own: "witnessed://" before that of the storage."""

    def __init__(self, journal: Journal, plugins: Plugins) -> None:
        self._journal = journal
        self._plugins = plugins

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer it."""

        async def destroy(url: StorageUrl) -> None:
            await self._plugins.adapter_for(inner(url)).destroy(inner(url))

        def create(url: StorageUrl) -> JobStorageProvider:
            return Witness(self._plugins.create_storage(inner(url)), url, self._journal)

        return [StorageAdapter(name=SCHEME, schemes=(SCHEME,), create=create, destroy=destroy)]


def witnessed(url: str) -> str:
    """Return the URL under which the storage at *url* has a witness."""
    return f"{SCHEME}://{url}"


def inner(url: StorageUrl) -> StorageUrl:
    """Return the URL that `witnessed` was given."""
    return StorageUrl(url.text.removeprefix(f"{SCHEME}://"))


class Witness(Relay):
    """The storage."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl, journal: Journal) -> None:
        super().__init__(inner, url)
        self._journal = journal
        self._numbers = count(time.monotonic_ns())  # a worker has two storages, and each numbers its calls

    @property
    def capabilities(self) -> Capabilities:
        """What the storage promises, less what is not handed on."""
        mine = self.inner.capabilities
        return evolve(mine, withheld=mine.withheld | (RELAYED - add_ons(self.inner)))

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Note each job with what is to become of it, and then the ids that stand."""
        number = next(self._numbers)
        told: list[Json] = [
            [
                str(job.tracking_id),
                job.idempotency_key,
                job.execute_after.timestamp(),
                job.queue_id,
                job.command.data,  # type: ignore[list-item]  # a JSON tree
            ]
            for job in jobs
        ]
        self._journal.note("store", call=number, jobs=told)
        try:
            standing = await super().store_jobs(jobs)
        except BaseException as error:
            self._raised(number, "store_jobs", error)
            raise
        self._journal.note("stored", call=number, ids=[*map(str, standing)])
        return standing

    async def claim_jobs(self, claim: Claim) -> Claimed:
        """Note how many were asked for, and then each lease with its end."""
        number = next(self._numbers)
        limit = sum(demand.limit for demand in claim.demands)
        now = claim.now.timestamp()
        self._journal.note("claim", call=number, limit=limit, now=now, lease=claim.lease_for.total_seconds())
        try:
            claimed = await super().claim_jobs(claim)
        except BaseException as error:
            self._raised(number, "claim_jobs", error)
            raise
        taken: list[Json] = [
            [str(job.tracking_id), job.fence, job.lapses, job.dequeue_after.timestamp()] for job in claimed.jobs
        ]
        self._journal.note("claimed", call=number, now=now, jobs=taken)
        self._journal.fences.update((job.tracking_id, job.fence) for job in claimed.jobs)
        return claimed

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Note which were renewed, and until when."""
        number = next(self._numbers)
        held = list(leases)
        until = (now + lease_for).timestamp()
        self._journal.note("renew", call=number, leases=_spelt(held), until=until)
        try:
            lost = await super().renew_leases(held, now=now, lease_for=lease_for)
        except BaseException as error:
            self._raised(number, "renew_leases", error)
            raise
        kept = [lease for lease in held if lease not in lost]
        self._journal.note("renewed", call=number, leases=_spelt(kept), lost=_spelt(lost), until=until)
        return lost

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Note the outcomes, and which of them were accepted."""
        number = next(self._numbers)
        self._journal.note("settle", call=number, leases=[_outcome(each) for each in settlements])
        try:
            refused = await super().settle_jobs(settlements, now=now)
        except BaseException as error:
            self._raised(number, "settle_jobs", error)
            raise
        accepted = [_outcome(each) for each in settlements if each.lease not in refused]
        self._journal.note("settled", call=number, leases=accepted, refused=_spelt(refused))
        return refused

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Note the wish and the answer."""
        number = next(self._numbers)
        self._journal.note("cancel", call=number, id=str(tracking_id))
        try:
            answer = await super().cancel_job(tracking_id, now=now)
        except BaseException as error:
            self._raised(number, "cancel_job", error)
            raise
        self._journal.note("cancelled", call=number, id=str(tracking_id), answer=answer.value)
        return answer

    def _raised(self, number: int, verb: str, error: BaseException) -> None:
        """Note errors of the storage; a call that was cancelled has no answer, like one whose process was killed."""
        if isinstance(error, Exception):
            kind = type(error).__name__ if isinstance(error, StorageError) else f"!{type(error).__name__}: {error}"
            self._journal.note("raised", call=number, verb=verb, kind=kind, message=str(error))


def plugins_with_witness(journal: Journal, load: Callable[[], Plugins]) -> Plugins:
    """Return the plugins that *load* gives, a witness among them."""
    plugins = load()
    plugins.register(WitnessPlugin(journal, plugins), name=SCHEME)
    return plugins


def _spelt(leases: Collection[Lease]) -> list[Json]:
    return [[str(lease.tracking_id), lease.fence] for lease in leases]


def _outcome(settlement: Settlement) -> Json:
    lease = settlement.lease
    return [str(lease.tracking_id), lease.fence, type(settlement.outcome).__name__]
