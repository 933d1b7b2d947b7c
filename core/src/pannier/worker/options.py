"""How a worker works."""

import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from uuid import uuid4

from attrs import field, frozen

from pannier.errors import ConfigurationError
from pannier.records import JobStatus

RETENTION: Final[Mapping[JobStatus, timedelta]] = MappingProxyType(
    {
        JobStatus.SUCCEEDED: timedelta(hours=24),
        JobStatus.CANCELLED: timedelta(hours=24),
        JobStatus.FAILED: timedelta(days=30),
        JobStatus.EXPIRED: timedelta(days=30),
    }
)
"""How long complete jobs are kept by default, counted from `finished_at`; a key blocks that long."""


def _worker_id() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@frozen(kw_only=True)
class WorkerOptions:
    """
    How one worker works. Everything has a default that suits most.

    Attributes:
        queues: Only these queues, by name; None: all that have a handler.
        max_running: How many jobs run at once over all queues; None: the sum of the queues' own limits.
        lease_for: How long a lease lasts; more than three times `renew_every` is not needed, less than twice is
            refused.
        renew_every: How often leases are renewed.
        probe_every: How often the storage is asked without a reason; None: 60 s where it pushes, 1 s where it does not.
        storage_retry_delay: The longest pause between two tries while the storage is faulty.
        shutdown_grace: How long running handlers may go on after a stop was asked for.
        purge_every: How often stale jobs are looked for; None: never by this worker.
        keep: How long complete jobs are kept, by status; a status that is absent is kept for ever.
        worker_id: Stored with each job it claims; by default host, process and a random part.
    """

    queues: frozenset[str] | None = None
    max_running: int | None = None
    lease_for: timedelta = timedelta(seconds=30)
    renew_every: timedelta = timedelta(seconds=10)
    probe_every: timedelta | None = None
    storage_retry_delay: timedelta = timedelta(seconds=5)
    shutdown_grace: timedelta = timedelta(seconds=30)
    purge_every: timedelta | None = timedelta(minutes=1)
    keep: Mapping[JobStatus, timedelta] = RETENTION
    worker_id: str = field(factory=_worker_id)

    def __attrs_post_init__(self) -> None:
        for name in ("lease_for", "renew_every", "probe_every", "storage_retry_delay", "purge_every"):
            span = getattr(self, name)
            if span is not None and span <= timedelta(0):
                raise ConfigurationError(f"{name} must be more than 0, not {span}")
        if self.shutdown_grace < timedelta(0):
            raise ConfigurationError(f"shutdown_grace must be at least 0, not {self.shutdown_grace}")
        if self.renew_every * 2 > self.lease_for:
            raise ConfigurationError(
                f"renew_every ({self.renew_every}) must be at most half of lease_for ({self.lease_for}), "
                f"or one lost renewal loses the lease"
            )
        if self.max_running is not None and self.max_running < 1:
            raise ConfigurationError(f"max_running must be at least 1, not {self.max_running}")
        if not self.worker_id:
            raise ConfigurationError("worker_id must not be empty")
