"""What the tests of the tools run in child processes."""

import os
import time

from pannier.inspection import JobFilter
from pannier.records import JobStatus
from pannier.storage import JobStorageProvider
from pannier_testing.builders import claim_of
from pannier_testing.trial import inspector_of


async def started_at(storage: JobStorageProvider) -> float:
    """Return when it started, on the clock that all processes share."""
    return time.monotonic()


async def claim_one(storage: JobStorageProvider, *, worker: str) -> list[str]:
    """Claim one job and return its id."""
    claimed = await storage.claim_jobs(claim_of(worker=worker))
    return [str(job.tracking_id) for job in claimed.jobs]


async def count_running(storage: JobStorageProvider) -> int:
    """Count the running jobs."""
    counts = await inspector_of(storage).count_jobs(JobFilter(statuses=frozenset({JobStatus.RUNNING})))
    return sum(counts.values())


async def leave(url: str, *, code: int) -> str:
    """End the process at once, or return where it was sent to."""
    if code:
        os._exit(code)
    return url
