"""Execution: one attempt of one job, from its payload to its outcome."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Final, assert_never
from uuid import UUID

from pannier.clock import Clock
from pannier.codec import Codec
from pannier.commands import Command, JobResult, set_tracking_id
from pannier.context import CURRENT_JOB, JobContext, StopReason, StopToken
from pannier.errors import StorageError, TimeLimitExceededError, UnstorableError
from pannier.handlers import HandlerKind
from pannier.invocation import Invoker, encode_progress
from pannier.records import Failed, JobRecord, Lease, Outcome, Release, Succeeded
from pannier.storage import JobResultProvider
from pannier.worker.failures import describe, judge
from pannier.worker.lanes import Lane

if TYPE_CHECKING:
    from pannier.queues import JobQueues

logger = logging.getLogger("pannier.worker")

STUCK_REPORT_SECONDS: Final = 60.0
PROGRESS_RETRY_SECONDS: Final = 0.5

_NO_RESULT: Final = Succeeded()
_LEASE_GONE: Final = frozenset({StopReason.CANCELLED, StopReason.LEASE_LOST})


class Run:
    """
    One attempt that is running here.

    Attributes:
        job: The record as it was claimed.
        lane: The slot that it takes.
        lease: The right to write it.
        stop: Tells the handler to stop, and why.
        successor: The same job, claimed again by this worker before this run had ended (E13).
    """

    __slots__ = ("_execution", "job", "lane", "lease", "stop", "successor", "task", "timer")

    def __init__(self, job: JobRecord, lane: Lane, execution: "Execution") -> None:
        self.job = job
        self.lane = lane
        self.lease: Lease = job.lease
        self.stop = StopToken()
        self.successor: JobRecord | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._execution = execution

    @property
    def tracking_id(self) -> UUID:
        """The job that is executed."""
        return self.job.tracking_id

    async def report(self, progress: JobResult[object]) -> bool:
        """Keep *progress* under this run's lease. See `JobContext.report`."""
        return await self._execution.report(self, progress)

    def ask_to_stop(self, reason: StopReason) -> None:
        """Tell the handler to stop: an async one by cancelling it, one in a thread by its token alone (E2)."""
        if self.stop.is_set:
            return
        self.stop.set(reason)
        handler = self.lane.registration.handler
        if self.task is not None and handler is not None and handler.kind is HandlerKind.ASYNC:
            self.task.cancel()


class Execution:
    """
    Runs handlers, each attempt in a task of its own, and hands their outcomes on.

    Nothing that a handler raises gets further than its own outcome (E8).
    """

    def __init__(
        self,
        *,
        queues: "JobQueues",
        invoker: Invoker,
        codec: Codec,
        results: JobResultProvider | None,
        clock: Clock,
        random: Random,
        worker_id: str,
        choose_delay: Callable[[JobRecord, Exception], timedelta | None],
        ended: Callable[[Run, Outcome | None], None],
        lost: Callable[[Run], None],
    ) -> None:
        self._queues = queues
        self._invoker = invoker
        self._codec = codec
        self._results = results
        self._clock = clock
        self._random = random
        self._worker_id = worker_id
        self._choose_delay = choose_delay
        self._ended = ended
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self.runs: dict[UUID, Run] = {}

    def start(self, job: JobRecord, lane: Lane) -> None:
        """Start *job* in a free slot of *lane*."""
        run = Run(job, lane, self)
        lane.running += 1
        self.runs[job.tracking_id] = run
        run.task = self._loop.create_task(self._run(run))
        limit = lane.options.time_limit
        if limit is not None:
            run.timer = self._loop.call_later(limit.total_seconds(), self._reach_time_limit, run)

    async def report(self, run: Run, progress: JobResult[object]) -> bool:
        """Store *progress* under the lease of *run*, again and again while the storage is faulty (E4)."""
        registration = run.lane.registration
        payload = encode_progress(registration.codec or self._codec, registration, progress)
        if self._results is None:
            return not run.stop.is_set
        while True:
            try:
                stands = await self._results.store_progress(run.lease, payload)
            except UnstorableError:
                raise
            except StorageError as error:
                logger.warning("progress of job %s could not be stored, trying again: %s", run.tracking_id, error)
                if run.stop.is_set:
                    return False
                await asyncio.sleep(PROGRESS_RETRY_SECONDS)
            else:
                if not stands:
                    self._lost(run)
                return stands

    async def _run(self, run: Run) -> None:
        CURRENT_JOB.set(run)
        started = perf_counter()
        try:
            outcome = await self._attempt(run)
        except BaseException as error:  # a handler may raise anything (E8)
            outcome = self._judge(run, error)
        if run.timer is not None:
            run.timer.cancel()
        run.lane.measure(perf_counter() - started)
        if run.stop.reason in _LEASE_GONE:
            outcome = None  # whatever it came to, the storage has refused it already
        self._ended(run, outcome)

    async def _attempt(self, run: Run) -> Outcome | None:
        registration, job = run.lane.registration, run.job
        codec = registration.codec or self._codec
        try:
            command = codec.decode(job.command, registration.command)
        except Exception as error:  # a user's codec may raise anything; no attempt can mend it
            return Failed(describe(error, attempt=job.attempt, at=self._clock.now()))
        assert isinstance(command, Command)  # noqa: S101  # the codec promises it
        assert registration.handler is not None  # noqa: S101  # a lane is made only for a handler
        set_tracking_id(command, job.tracking_id)
        result = await self._invoker.invoke(registration.handler, command, self._context(run))
        if run.stop.reason is StopReason.TIME_LIMIT:
            raise TimeLimitExceededError(run.lane.options.time_limit or timedelta(0))
        if result is None and not registration.has_result:
            return _NO_RESULT
        try:
            return Succeeded(codec.encode(result, registration.result))
        except Exception as error:  # a wrong result is a fault of the program; running again can't mend it
            return Failed(describe(error, attempt=job.attempt, at=self._clock.now()))

    def _context(self, run: Run) -> JobContext[object]:
        job = run.job
        return JobContext(
            tracking_id=job.tracking_id,
            queue_id=job.queue_id,
            attempt=job.attempt,
            worker_id=self._worker_id,
            expire_on=job.expire_on,
            metadata=job.metadata,
            stop=run.stop,
            queues=self._queues,
            reporter=run,
        )

    def _judge(self, run: Run, error: BaseException) -> Outcome | None:
        """Decide what becomes of an attempt that raised *error*; None: nothing, its lease no longer stands."""
        match run.stop.reason:
            case StopReason.CANCELLED | StopReason.LEASE_LOST:
                return None
            case StopReason.SHUTDOWN | StopReason.LEASE_ENDING:
                return Release()
            case StopReason.TIME_LIMIT:
                limit = TimeLimitExceededError(run.lane.options.time_limit or timedelta(0))
                limit.__cause__ = error
                error = limit
            case None:
                if isinstance(error, asyncio.CancelledError) and run.task is not None and run.task.cancelling():
                    return Release()  # the loop is going down around us
            case _:
                assert_never(run.stop.reason)
        return judge(
            error,
            job=run.job,
            options=run.lane.options,
            now=self._clock.now(),
            random=self._random,
            choose_delay=self._choose_delay,
        )

    def _reach_time_limit(self, run: Run) -> None:
        run.ask_to_stop(StopReason.TIME_LIMIT)
        run.timer = self._loop.call_later(STUCK_REPORT_SECONDS, self._report_stuck, run)

    def _report_stuck(self, run: Run) -> None:
        """Say each minute that a handler goes on past its time limit: its slot and lease are kept meanwhile (E3)."""
        logger.warning(
            "job %s of queue %r ignores its time limit of %s and still runs",
            run.tracking_id,
            run.job.queue_id,
            run.lane.options.time_limit,
            extra=log_fields(run.job),
        )
        run.timer = self._loop.call_later(STUCK_REPORT_SECONDS, self._report_stuck, run)


def log_fields(job: JobRecord) -> dict[str, object]:
    """Return what every log line about *job* carries, for structured logging."""
    return {"tracking_id": str(job.tracking_id), "queue_id": job.queue_id, "attempt": job.attempt}
