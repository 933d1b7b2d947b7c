"""Reporting: what happens to jobs in a worker, as log lines and as events."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from pannier.clock import Clock
from pannier.events import JobEvent, JobEventKind
from pannier.observers import Observers
from pannier.records import JobError, JobRecord, JobStatus
from pannier.settlements import Failed, Release, Retry, Succeeded
from pannier.worker.attempts import Attempt

logger = logging.getLogger("pannier.worker")


class Reporting:
    """
    Words what happens to jobs.

    What goes well is logged at DEBUG: a line for each job costs more than running it. Each line carries tracking id,
    queue, attempt and worker as fields.
    """

    def __init__(self, *, observers: Observers, clock: Clock, worker_id: str) -> None:
        self._observers = observers
        self._clock = clock
        self._worker_id = worker_id

    def claimed(self, jobs: Sequence[JobRecord]) -> None:
        """Tell of jobs that this worker has leased."""
        if logger.isEnabledFor(logging.DEBUG):
            for job in jobs:
                logger.debug("claimed job %s of queue %r", job.tracking_id, job.queue_id, extra=self._fields(job))
        if self._observers.wants_events:
            for job in jobs:
                self._tell(JobEventKind.CLAIMED, job)

    @property
    def is_quiet_on_success(self) -> bool:
        """Whether nobody wants to hear of jobs that succeed, so that `settled` need not be called for them."""
        return not self._observers.wants_events and not logger.isEnabledFor(logging.DEBUG)

    def settled(self, attempt: Attempt) -> None:
        """Tell of an outcome that the storage has accepted."""
        job = attempt.job
        match attempt.outcome:
            case None:
                pass
            case Succeeded():
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("job %s succeeded", job.tracking_id, extra=self._fields(job))
                self._tell(JobEventKind.SUCCEEDED, job)
            case Retry(at=at, error=error):
                logger.warning(
                    "job %s failed in attempt %d, next one at %s: %s: %s",
                    job.tracking_id,
                    job.attempt,
                    at.isoformat(),
                    error.kind,
                    error.message,
                    extra=self._fields(job),
                )
                self._tell(JobEventKind.RETRIED, job, error, retry_at=at)
            case Failed(error=error):
                logger.error(
                    "job %s failed for good in attempt %d: %s: %s",
                    job.tracking_id,
                    job.attempt,
                    error.kind,
                    error.message,
                    extra=self._fields(job),
                )
                self._tell(JobEventKind.FAILED, job, error)
            case Release():
                logger.info("job %s was given back", job.tracking_id, extra=self._fields(job))
                self._tell(JobEventKind.RELEASED, job)
            case _:
                assert_never(attempt.outcome)

    def lost(self, job: JobRecord, *, found: JobRecord | None) -> None:
        """Tell that the lease of *job* no longer stands; *found* is what is stored now, None if nothing was found."""
        if found is not None and found.status is JobStatus.CANCELLED:
            logger.info("job %s was cancelled while it was here", job.tracking_id, extra=self._fields(job))
            self._tell(JobEventKind.CANCELLED, job)
            return
        status = "not to be found" if found is None else found.status
        logger.warning("the lease of job %s was lost: it is %s now", job.tracking_id, status, extra=self._fields(job))
        self._tell(JobEventKind.LEASE_LOST, job)

    def overrun(self, job: JobRecord) -> None:
        """Tell of a handler that outlives its lease: two runs may overlap."""
        self._tell(JobEventKind.LEASE_OVERRUN, job)

    def expired(self, count: int) -> None:
        """Tell of jobs that a purge has marked EXPIRED."""
        logger.info("%d jobs expired before they were done", count)
        self._observers.tell(
            JobEvent(
                kind=JobEventKind.EXPIRED,
                at=self._clock.now(),
                queue_id="*",
                tracking_id=None,
                worker_id=self._worker_id,
                count=count,
            )
        )

    def _tell(
        self, kind: JobEventKind, job: JobRecord, error: JobError | None = None, *, retry_at: datetime | None = None
    ) -> None:
        if not self._observers.wants_events:
            return
        self._observers.tell(
            JobEvent(
                kind=kind,
                at=self._clock.now(),
                queue_id=job.queue_id,
                tracking_id=job.tracking_id,
                attempt=job.attempt,
                worker_id=self._worker_id,
                error=error,
                retry_at=retry_at,
            )
        )

    def _fields(self, job: JobRecord) -> dict[str, object]:
        return {
            "tracking_id": str(job.tracking_id),
            "queue_id": job.queue_id,
            "attempt": job.attempt,
            "worker_id": self._worker_id,
        }
