"""Trackers: follow jobs of one command by their tracking ids."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar, assert_never, cast
from uuid import UUID

from attrs import frozen

from pannier.commands import Command, JobResult, TrackableJob
from pannier.context import CURRENT_JOB
from pannier.errors import (
    DecodingError,
    EncodingError,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    JobNotFoundError,
    NotRunningHereError,
    NotSupportedError,
    WrongResultTypeError,
)
from pannier.invocation import Steps, progress_type
from pannier.records import Cancellation, JobRecord, JobStatus, Payload, StoredResult
from pannier.registry import Registration

if TYPE_CHECKING:
    from pannier.queues import JobQueues
    from pannier.sync import SyncJobTracker

C_co = TypeVar("C_co", bound=Command[object], covariant=True)
R = TypeVar("R")
J = TypeVar("J", bound=JobResult[object])

FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 1.0
FOLLOW_SECONDS: Final = 0.2


@frozen(kw_only=True)
class JobProgress:
    """
    How far a job is. Success clears the steps and what the handler said; a `TrackableJob` keeps those of its result.

    Attributes:
        status: Where it is in its life.
        current_step: How many steps its handler has reported as done.
        total_steps: How many there are; 0: not said.
        current_status: What the handler said it is doing.
    """

    status: JobStatus
    current_step: int = 0
    total_steps: int = 0
    current_status: str | None = None

    @property
    def percentage(self) -> int | None:
        """The steps done in whole percent; None where the handler has not said how many there are."""
        return self.current_step * 100 // self.total_steps if self.total_steps else None


class JobTracker(Generic[C_co]):
    """Follows jobs of one command. Get one from `JobQueues.tracker`, or have it put into a class handler."""

    def __init__(self, queues: "JobQueues", registration: Registration) -> None:
        self._queues = queues
        self._registration = registration

    @property
    def sync(self) -> "SyncJobTracker[C_co]":
        """The same for code without an event loop, and for handlers that run in a thread."""
        from pannier.sync import SyncJobTracker  # noqa: PLC0415  # sync builds on this module

        return SyncJobTracker(self, self._queues.sync.portal)

    async def get_job_result(self: "JobTracker[Command[R]]", tracking_id: UUID) -> R | None:
        """
        Return the job's result, or None until there is one.

        Of a `TrackableJob` the result that its handler stored last, while the job runs.

        Raises:
            WrongResultTypeError: The command has no result, or what is stored is of another type.
            NotSupportedError: The storage keeps no results.
        """
        if not self._registration.has_result:
            raise WrongResultTypeError(f"{self._name} has no result to get; it is a Command[None]")
        stored = await self._results_of(tracking_id)
        if stored is None:
            return None
        payload = stored.result
        if payload is None and issubclass(self._registration.command, TrackableJob):
            payload = stored.progress
        return None if payload is None else cast("R", self._decode(payload, self._registration.result, tracking_id))

    async def get_job_progress(self, tracking_id: UUID) -> JobProgress | None:
        """
        Return how far the job is, or None if there is no such job.

        Raises:
            NotSupportedError: The storage keeps no progress.
        """
        stored = await self._results_of(tracking_id)
        return None if stored is None else self._progress(stored, tracking_id)

    async def get_job(self, tracking_id: UUID) -> JobRecord | None:
        """Return the job as it is stored, or None."""
        return await self._queues.session.storage.get_job(tracking_id)

    async def wait_for_result(
        self: "JobTracker[Command[R]]", tracking_id: UUID, *, timeout: timedelta | None = None
    ) -> R:
        """
        Wait until the job has ended, and return its result; None for a `Command[None]`.

        Raises:
            JobFailedError: It failed for good; carries type, message and traceback text.
            JobCancelledError, JobExpiredError, JobNotFoundError: As they say.
            TimeoutError: It has not ended within *timeout*; it goes on.
        """
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()) as limit:
                stored = await self._wait_until_ended(tracking_id)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(f"job {tracking_id} has not ended within {timeout}; it goes on") from error
        return cast("R", self._result_of_ended(stored, tracking_id))

    async def follow(self, tracking_id: UUID) -> AsyncIterator[JobProgress]:
        """
        Yield the job's progress each time that it changes, its end last.

        Success clears the steps, so the last one of a job that succeeded is 0 of 0.

        Raises:
            JobNotFoundError: There is no such job.
            NotSupportedError: The storage keeps no progress.
        """
        latest: JobProgress | None = None
        with _Hinted(self._queues, tracking_id) as hinted:
            while latest is None or not latest.status.is_complete:
                progress = await self.get_job_progress(tracking_id)
                if progress is None:
                    raise JobNotFoundError(tracking_id)
                if progress != latest:
                    latest = progress
                    yield progress
                else:
                    await hinted.wait(FOLLOW_SECONDS)

    async def cancel_job(self, tracking_id: UUID) -> Cancellation:
        """
        Cancel the job at once and for good, pending or running; a running handler is told to stop.

        Safe to repeat. The effects that a running handler has had already stay.
        """
        return await self._queues.cancel_job(tracking_id)

    async def store_job_result(self: "JobTracker[TrackableJob[J]]", tracking_id: UUID, job_result: J) -> bool:
        """
        Store what the running handler of a `TrackableJob` has so far; the last one wins.

        Written under the lease of the job that the calling code executes.

        Returns:
            False if the job is no longer this execution's: the handler is being stopped.

        Raises:
            NotRunningHereError: The calling code does not execute the job *tracking_id*.
            WrongResultTypeError: The command is no `TrackableJob`, or *job_result* is of another type.
        """
        if not issubclass(self._registration.command, TrackableJob):
            raise WrongResultTypeError(
                f"{self._name} is no TrackableJob, so it has no result before its end; use job.report() for progress"
            )
        running = CURRENT_JOB.get()
        if running is None or running.tracking_id != tracking_id:
            raise NotRunningHereError(
                f"job {tracking_id} is not executed by the calling code; only its own handler stores its result"
            )
        try:
            return await running.report(job_result)
        except EncodingError as error:
            raise WrongResultTypeError(f"{self._name} declares another result: {error}") from error

    @property
    def _name(self) -> str:
        return self._registration.command.__qualname__

    async def _results_of(self, tracking_id: UUID) -> StoredResult | None:
        results = self._queues.session.results
        if results is None:
            raise NotSupportedError(
                f"the storage {self._queues.storage_name} keeps no results and no progress; "
                f"use one with the add-on 'results', or get_job for the status"
            )
        return await results.get_job_result(tracking_id)

    async def _wait_until_ended(self, tracking_id: UUID) -> StoredResult:
        pause = FIRST_POLL_SECONDS
        with _Hinted(self._queues, tracking_id) as hinted:
            while True:
                stored = await self._status_of(tracking_id)
                if stored is None:
                    raise JobNotFoundError(tracking_id)
                if stored.status.is_complete:
                    return stored
                await hinted.wait(pause)
                pause = min(LAST_POLL_SECONDS, pause * 2)

    async def _status_of(self, tracking_id: UUID) -> StoredResult | None:
        session = self._queues.session
        if session.results is not None:
            return await session.results.get_job_result(tracking_id)
        job = await session.storage.get_job(tracking_id)
        if job is None:
            return None
        return StoredResult(status=job.status, progress=None, result=None, errors=job.errors)

    def _result_of_ended(self, stored: StoredResult, tracking_id: UUID) -> object:
        match stored.status:
            case JobStatus.SUCCEEDED:
                if stored.result is None:
                    return None
                return self._decode(stored.result, self._registration.result, tracking_id)
            case JobStatus.FAILED:
                last = stored.errors[-1] if stored.errors else None
                if last is None:
                    raise JobFailedError(tracking_id, "unknown", "", "")
                raise JobFailedError(tracking_id, last.kind, last.message, last.traceback)
            case JobStatus.CANCELLED:
                raise JobCancelledError(tracking_id)
            case JobStatus.EXPIRED:
                raise JobExpiredError(tracking_id)
            case JobStatus.PENDING | JobStatus.RUNNING:
                raise AssertionError("an unfinished job has no result yet")
            case _:
                assert_never(stored.status)

    def _progress(self, stored: StoredResult, tracking_id: UUID) -> JobProgress:
        # Success clears the progress (R69); the result of a trackable job still tells its steps.
        is_trackable = issubclass(self._registration.command, TrackableJob)
        payload = stored.result if stored.progress is None and is_trackable else stored.progress
        if payload is None:
            return JobProgress(status=stored.status)
        known = self._decode(payload, progress_type(self._registration), tracking_id)
        if not isinstance(known, JobResult | Steps):
            return JobProgress(status=stored.status)
        return JobProgress(
            status=stored.status,
            current_step=known.current_step,
            total_steps=known.total_steps,
            current_status=known.current_status,
        )

    def _decode(self, payload: Payload, declared: object, tracking_id: UUID) -> object:
        codec = self._registration.codec or self._queues.codec
        try:
            return codec.decode(payload, declared)
        except DecodingError as error:
            raise WrongResultTypeError(f"the result of job {tracking_id} is not {self._name}'s: {error}") from error


class _Hinted:
    """Waits for a hint about one job, or for time to pass."""

    def __init__(self, queues: "JobQueues", tracking_id: UUID) -> None:
        self._queues = queues
        self._tracking_id = tracking_id
        self._event = asyncio.Event()

    def __enter__(self) -> "_Hinted":
        self._queues.listen()
        # Kept, because a generator that is left halfway may be closed after the job queues were.
        self._hints = self._queues.session.hints
        self._hints.watch(self._tracking_id, self._event.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._hints.unwatch(self._tracking_id, self._event.set)

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()
