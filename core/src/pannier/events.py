"""What happens to jobs, as plugins see it through the hook `pannier_job_event`."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from attrs import frozen

from pannier.records import JobError


class JobEventKind(StrEnum):
    """One word for each thing that can happen to a job here."""

    QUEUED = "queued"
    """It was stored."""
    DUPLICATE = "duplicate"
    """It was not stored, since a job of its queue has its idempotency key."""
    CLAIMED = "claimed"
    """A worker here has leased it."""
    SUCCEEDED = "succeeded"
    """Its result was stored."""
    RETRIED = "retried"
    """An attempt failed; there will be another one."""
    FAILED = "failed"
    """It failed for good."""
    RELEASED = "released"
    """It was given back and waits again; the attempt is not counted."""
    CANCELLED = "cancelled"
    """It was cancelled."""
    EXPIRED = "expired"
    """It was not done before its expiry."""
    LEASE_LOST = "lease_lost"
    """It is no longer this worker's."""
    LEASE_OVERRUN = "lease_overrun"
    """Its handler outlives its lease: two runs may overlap."""


@frozen(kw_only=True)
class JobEvent:
    """
    One thing that happened to one job in this process.

    Attributes:
        kind: What happened.
        at: When, by the storage's clock where it has one.
        queue_id: The job's queue; "*" where a purge speaks of all of them.
        tracking_id: The job. A DUPLICATE names the job that stands. None for EXPIRED, which a purge only counts.
        attempt: The attempt it belongs to; 0 before the first.
        worker_id: The worker that saw it; None outside a worker.
        error: How the attempt failed: RETRIED and FAILED.
        retry_at: When the next attempt is due: RETRIED.
        count: How many jobs it speaks of; more than 1 only for EXPIRED.
    """

    kind: JobEventKind
    at: datetime
    queue_id: str
    tracking_id: UUID | None
    attempt: int = 0
    worker_id: str | None = None
    error: JobError | None = None
    retry_at: datetime | None = None
    count: int = 1
