"""Jobs, claims and outcomes for tests, on a virtual time that begins at `T0`. Pure functions."""

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pannier.claims import Claim, Demand
from pannier.records import JobError, JobRecord, Json, Payload
from pannier.settlements import Failed, Retry

T0: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""When virtual time begins. On every sensible grid."""

SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
LEASE: Final = timedelta(seconds=30)
LOOK_AHEAD: Final = timedelta(days=1)
QUEUE: Final = "mail"
WORKER: Final = "worker-1"


def new_id(rng: random.Random) -> UUID:
    """Return a random tracking id that *rng* decides."""
    return UUID(int=rng.getrandbits(128), version=4)


def ids_of(jobs: Iterable[JobRecord]) -> list[UUID]:
    """Return the tracking ids of *jobs*."""
    return [job.tracking_id for job in jobs]


def new_job(
    tracking_id: UUID,
    queue_id: str = QUEUE,
    *,
    execute_after: datetime = T0,
    expire_on: datetime | None = None,
    created_at: datetime = T0,
    priority: int = 0,
    key: str | None = None,
    command: Json | bytes = "hello",
    metadata: Mapping[str, str] | None = None,
) -> JobRecord:
    """Return a new job with only the fields that a test is about."""
    return JobRecord(
        tracking_id=tracking_id,
        queue_id=queue_id,
        command=Payload(command),
        execute_after=execute_after,
        expire_on=expire_on,
        created_at=created_at,
        priority=priority,
        idempotency_key=key,
        metadata=metadata or {},
    )


def full_job(tracking_id: UUID, queue_id: str = QUEUE) -> JobRecord:
    """Return a new job with every field set that a caller may set, each to a value that is not the default."""
    return JobRecord(
        tracking_id=tracking_id,
        queue_id=queue_id,
        command=Payload(
            {"to": ["a@example.org", ""], "n": 3, "x": 1.5, "yes": True, "none": None, "": {}}, encoding="json+v2"
        ),
        execute_after=T0 + 2 * SECOND,
        expire_on=T0 + 3600 * SECOND,
        created_at=T0 + SECOND,
        priority=-7,
        idempotency_key=f"order {tracking_id}",
        metadata={"tenant": "acme", "trace": "00-ab", "": "empty name", "empty": ""},
    )


def claim_of(
    *queue_ids: str,
    limit: int = 1,
    now: datetime = T0,
    worker: str = WORKER,
    lease_for: timedelta = LEASE,
    look_ahead: timedelta = LOOK_AHEAD,
) -> Claim:
    """Return a claim of one demand: *queue_ids* (the usual queue if none is given) share the limit."""
    demands = (Demand(queue_ids or (QUEUE,), limit),)
    return Claim(demands=demands, worker_id=worker, now=now, lease_for=lease_for, look_ahead=look_ahead)


def error_at(at: datetime = T0, *, attempt: int = 1, message: str = "the post office is closed") -> JobError:
    """Return the error of a failed attempt."""
    return JobError(attempt=attempt, at=at, kind="builtins.OSError", message=message, traceback="Traceback ...")


def failed(at: datetime = T0, *, attempt: int = 1) -> Failed:
    """Return the outcome of an attempt that failed for good."""
    return Failed(error_at(at, attempt=attempt))


def retry(again_at: datetime, *, at: datetime = T0, attempt: int = 1) -> Retry:
    """Return the outcome of an attempt that failed and is tried again at *again_at*."""
    return Retry(again_at, error_at(at, attempt=attempt))
