"""Storages and values that break a rule of section Q."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import frozen

from pannier.claims import Claim, Demand
from pannier.errors import StorageError, StorageRefusedError, StorageUnavailableError, UnstorableError
from pannier.inspection import JobFilter, JobPage
from pannier.purging import StaleJobs
from pannier.records import Cancellation, JobRecord, Lease, Payload
from pannier.settlements import Retry, Settlement
from pannier_testing.reference.loopback import LoopbackProvider
from pannier_testing.reference.provider import ReferenceProvider
from pannier_testing.saboteurs.making import on_loopback, on_memory, on_reference, on_values
from pannier_testing.saboteurs.relay import Relay

PASSWORD = "hunter2-and-more"  # noqa: S105  # of a server that lives for one test


@on_values("R106", "demand")
@frozen
class TakesANegativeLimit(Demand):
    """Takes -1 for no limit."""

    def __attrs_post_init__(self) -> None:
        limit = self.limit
        object.__setattr__(self, "limit", abs(limit) if isinstance(limit, int) else limit)
        super().__attrs_post_init__()


@on_values("R106", "demand")
@frozen
class TakesALetterForAQueue(Demand):
    """Takes a text for the queue ids that its letters are."""

    def __attrs_post_init__(self) -> None:
        given: object = self.queue_ids
        if isinstance(given, str):
            object.__setattr__(self, "queue_ids", tuple(given))
        super().__attrs_post_init__()


@on_values("R106", "lease")
@frozen
class HasALeaseOfFenceZero(Lease):
    """Takes a lease that no claim has given."""

    def __attrs_post_init__(self) -> None:
        if self.fence != 0 or isinstance(self.fence, bool):
            super().__attrs_post_init__()


@on_values("R106", "claim")
@frozen(kw_only=True)
class LeasesForNoTime(Claim):
    """Takes a lease_for of 0, and of less."""

    def __attrs_post_init__(self) -> None:
        lease_for = self.lease_for
        if isinstance(lease_for, timedelta) and lease_for <= timedelta(0):
            object.__setattr__(self, "lease_for", timedelta(1))
        super().__attrs_post_init__()
        object.__setattr__(self, "lease_for", lease_for)


@on_values("R106", "claim")
@frozen(kw_only=True)
class AsksOneQueueTwice(Claim):
    """Takes two demands of one queue."""

    def __attrs_post_init__(self) -> None:
        try:
            super().__attrs_post_init__()
        except ValueError as error:
            if "twice" not in str(error):
                raise


@on_values("R106", "job_record")
@frozen(kw_only=True, slots=False)
class ExpiresBeforeItStarts(JobRecord):
    """Takes an expiry that is not after the start."""

    def __attrs_post_init__(self) -> None:
        try:
            super().__attrs_post_init__()
        except ValueError as error:
            if "must lie after" not in str(error):
                raise


@on_values("R106", "stale_jobs")
@frozen(kw_only=True)
class PurgesNothingAtATime(StaleJobs):
    """Takes a limit of 0, with which a purge never ends."""

    def __attrs_post_init__(self) -> None:
        limit = self.limit
        object.__setattr__(self, "limit", 1 if limit == 0 and not isinstance(limit, bool) else limit)
        super().__attrs_post_init__()
        object.__setattr__(self, "limit", limit)


@on_values("R106", "retry")
@frozen
class NamesNoField(Retry):
    """Refuses what is wrong without saying which field it is."""

    def __attrs_post_init__(self) -> None:
        try:
            super().__attrs_post_init__()
        except (TypeError, ValueError) as error:
            raise type(error)("bad argument") from None


@on_loopback("R107", password=PASSWORD)
class TellsItsPassword(LoopbackProvider):
    """Shows its URL whole in its repr."""

    def __repr__(self) -> str:
        return f"TellsItsPassword({self.url.text!r})"


@on_loopback("R107", password=PASSWORD)
class TellsThePasswordInErrors(LoopbackProvider):
    """Says by which URL it could not connect, password and all."""

    async def open(self) -> None:
        """Connect, or tell."""
        try:
            await super().open()
        except StorageError as error:
            raise type(error)(f"could not connect to {self.url.text}: {error}") from error


@on_loopback("R107")
class LetsDriverErrorsOut(LoopbackProvider):
    """Raises the driver's own error where nobody listens."""

    async def open(self) -> None:
        """Unwrap."""
        try:
            await super().open()
        except StorageUnavailableError as error:
            raise error.__cause__ or error from None


@on_loopback("R107")
class ForgetsTheCause(LoopbackProvider):
    """Raises its own error without the driver's as its cause."""

    async def open(self) -> None:
        """Drop it."""
        try:
            await super().open()
        except StorageUnavailableError as error:
            raise StorageUnavailableError(str(error)) from None


@on_loopback("R107", password=PASSWORD)
class TriesAWrongPasswordAgain(LoopbackProvider):
    """Takes a wrong password for a server that is not there."""

    async def open(self) -> None:
        """Call it unavailable."""
        try:
            await super().open()
        except StorageRefusedError as error:
            raise StorageUnavailableError(str(error)) from error


@on_reference("R107")
class TellsThePayload(ReferenceProvider):
    """Says what it is that it can't store."""

    async def store_jobs(self, jobs: Sequence[JobRecord]) -> list[UUID]:
        """Quote it."""
        try:
            return await super().store_jobs(jobs)
        except UnstorableError as error:
            data = jobs[0].command.data
            first = data[0] if isinstance(data, list) else "a command"
            raise UnstorableError(error.tracking_id, f"{error.reason}: [{first!r}, ...") from error


@on_memory("R108")
class LooksNoArgumentOver(Relay):
    """Uses an argument before it has looked at its type."""

    async def cancel_job(self, tracking_id: UUID, *, now: datetime) -> Cancellation:
        """Spell the id, whatever it is."""
        _ = tracking_id.hex
        return await super().cancel_job(tracking_id, now=now)


@on_reference("R108")
class OverflowsAtBigLimits(ReferenceProvider):
    """Gives the limit of a page to a driver that takes 64 bits."""

    async def find_jobs(self, wanted: JobFilter, *, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Pack it."""
        if type(limit) is int:
            limit.to_bytes(8, "big", signed=True)
        return await super().find_jobs(wanted, cursor=cursor, limit=limit)


@on_reference("R108")
class RenewsBeforeItChecks(ReferenceProvider):
    """Renews leases one by one, up to the first that is none."""

    async def renew_leases(self, leases: Collection[Lease], *, now: datetime, lease_for: timedelta) -> frozenset[Lease]:
        """Write as it goes."""
        lost: set[Lease] = set()
        for lease in list(leases):
            lost |= await super().renew_leases([lease], now=now, lease_for=lease_for)
        return frozenset(lost)


@on_reference("R108")
class SettlesBeforeItChecks(ReferenceProvider):
    """Settles jobs one by one, up to the first that can't be."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Write as it goes."""
        refused: set[Lease] = set()
        for settlement in list(settlements):
            refused |= await super().settle_jobs([settlement], now=now)
        return frozenset(refused)


@on_reference("R107")
class TellsTheProgress(ReferenceProvider):
    """Says what the progress is about that it can't store."""

    async def store_progress(self, lease: Lease, progress: Payload) -> bool:
        """Add it to the error."""
        try:
            return await super().store_progress(lease, progress)
        except UnstorableError as error:
            names = list(progress.data) if isinstance(progress.data, dict) else []
            raise UnstorableError(error.tracking_id, f"{error.reason}: {names}") from error
