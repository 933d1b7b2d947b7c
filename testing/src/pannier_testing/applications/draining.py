"""Draining: running, with a real worker, all that is due, until nothing is."""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

from pannier import JobQueues, JobRecord, JobStatus, WorkerOptions, transitions
from pannier.inspection import JobFilter
from pannier_testing.applications.queued import listed

FIRST_LOOK_SECONDS: Final = 0.001
LONGEST_LOOK_SECONDS: Final = 0.05
"""How often to look whether anything is due; the pauses double, so that a server is not asked a thousand times."""

PATIENCE: Final = timedelta(seconds=30)
"""How long draining may take, in real time, before it is given up."""

RETRY_DELAY: Final = timedelta(milliseconds=20)
"""The longest pause after a fault of the storage, which a test makes on purpose."""

_UNFINISHED: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING})


class AttemptsFailedError(AssertionError):
    """
    Handlers raised while `drain` ran them.

    Attributes:
        jobs: The jobs whose attempts failed, as they are now; each one's `errors` ends with what was raised.
    """

    def __init__(self, jobs: list[JobRecord]) -> None:
        super().__init__(jobs)
        self.jobs = jobs

    def __str__(self) -> str:
        told = [
            f"job {job.tracking_id} of queue {job.queue_id!r}, attempt {error.attempt}: {error.kind}: {error.message}\n"
            f"{error.traceback}"
            for job in self.jobs
            for error in job.errors[-1:]
        ]
        return "\n".join(["handlers raised; where they are meant to, use run_due_jobs", *told])


async def drain(jobs: JobQueues, *, within: timedelta = PATIENCE) -> list[JobRecord]:
    """
    Run every job that is due, and those that they queue, until nothing is due; every handler must succeed.

    A real worker does it, beside those that the application runs itself, so that payloads, middleware, limits, keys
    and events are those of production. What is set for later stays: move the clock and drain again.

    Args:
        jobs: Whose jobs; opened where they are not.
        within: How long that may take, in real time.

    Returns:
        The jobs that ran, as they are now, in the order in which they were queued.

    Raises:
        AttemptsFailedError: A handler raised; the message has its traceback.
        TimeoutError: Something still runs or is still due; names it.
        UsageError: The storage can't list jobs, or *jobs* are open on another event loop.
    """
    ran, failed = await _run(jobs, within)
    if failed:
        raise AttemptsFailedError(failed)
    return ran


async def run_due_jobs(jobs: JobQueues, *, within: timedelta = PATIENCE) -> list[JobRecord]:
    """
    Do as `drain`, but let handlers fail: status and `errors` of the returned jobs tell what became of them.

    A job that is to be tried again waits for its time: `clock.advance_to(job.dequeue_after)` brings that on.
    """
    ran, _ = await _run(jobs, within)
    return ran


async def _run(jobs: JobQueues, within: timedelta) -> tuple[list[JobRecord], list[JobRecord]]:
    """Return the jobs that ran, and those of them whose attempts failed."""
    async with jobs:
        before = {job.tracking_id: job for job in await listed(jobs, JobFilter())}
        options = WorkerOptions(storage_retry_delay=RETRY_DELAY, shutdown_grace=timedelta(0), keep={})
        async with jobs.worker(options):
            await _until_idle(jobs, within)
        after = await listed(jobs, JobFilter())
    ran = [job for job in after if _has_run(before, job)]
    failed = [job for job in ran if job.errors and job.errors != _errors(before, job)]
    return ran, failed


async def _until_idle(jobs: JobQueues, within: timedelta) -> None:
    served = [registration for registration in jobs.registry if registration.handler is not None]
    unfinished = JobFilter(
        queue_ids=frozenset(queue_id for registration in served for queue_id in registration.queue_ids),
        statuses=_UNFINISHED,
    )
    busy: list[JobRecord] = []
    pause = FIRST_LOOK_SECONDS
    try:
        async with asyncio.timeout(within.total_seconds()):
            while busy := [job for job in await listed(jobs, unfinished) if _is_busy(jobs, job)]:
                await asyncio.sleep(pause)  # no event tells that a worker is idle
                pause = min(pause * 2, LONGEST_LOOK_SECONDS)
    except TimeoutError:
        told = ", ".join(f"{job.queue_id} {job.tracking_id} ({job.status})" for job in busy)
        raise TimeoutError(f"not drained within {within.total_seconds():g} s: {told}") from None


def _is_busy(jobs: JobQueues, job: JobRecord) -> bool:
    """Whether a worker, also one of the application's own, runs *job*, or will claim it or mark it EXPIRED now."""
    now = jobs.now()
    return job.status is JobStatus.RUNNING or transitions.is_claimable(job, now) or transitions.is_expirable(job, now)


def _has_run(before: dict[UUID, JobRecord], job: JobRecord) -> bool:
    """Whether *job* was claimed since, or ran already."""
    known = before.get(job.tracking_id)
    if known is None:
        return job.fence > 0
    return job.fence != known.fence or known.status is JobStatus.RUNNING


def _errors(before: dict[UUID, JobRecord], job: JobRecord) -> object:
    known = before.get(job.tracking_id)
    return () if known is None else known.errors
