"""The worker: puts its parts together, starts them, keeps them apart from each other, and stops them in order."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Final

from pannier.backoff import Backoff
from pannier.context import StopReason
from pannier.errors import ConfigurationError
from pannier.records import JobRecord, Lease, Notice, NoticeKind, Release, Retry, Succeeded
from pannier.session import DEFAULT_PROBE
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt, Attempts, Phase
from pannier.worker.dispatcher import Dispatcher
from pannier.worker.execution import Execution
from pannier.worker.janitor import Janitor
from pannier.worker.lanes import Lane
from pannier.worker.leases import Keeper, LoopKeeping, ThreadKeeping
from pannier.worker.options import WorkerOptions
from pannier.worker.reporting import Reporting
from pannier.worker.settler import Settler

if TYPE_CHECKING:
    from uuid import UUID

    from pannier.queues import JobQueues

logger = logging.getLogger("pannier.worker")

CHECK_SECONDS: Final = 0.5
"""How often at most held leases are checked because of hints that name no job; a cancel is noticed within a second."""

CANCEL_GRACE: Final = timedelta(seconds=5)
"""How long handlers that were told to stop at shutdown may clean up."""

LAST_TRY: Final = timedelta(seconds=10)
"""How long a stopping worker goes on trying to settle what has ended."""


class Worker:
    """
    Executes jobs from when it is entered until it is left. Made by `JobQueues.worker`.

    Leaving it stops claiming, gives running handlers a grace period, then cancels and releases them, so that no attempt
    is burnt (E5).
    """

    def __init__(self, jobs: "JobQueues", options: WorkerOptions, *, overrun: Callable[[], None] | None = None) -> None:
        self.options = options
        self._jobs = jobs
        self._overrun = overrun
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: set[asyncio.Task[None]] = set()
        self._cancelled: set[UUID] = set()
        self._check_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Worker":
        await self._jobs.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._end_tasks()
            await self._jobs.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stop()
        finally:
            await self._jobs.__aexit__()

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return len(self._execution.running)

    async def wait_until_failed(self) -> None:
        """
        Wait until a part of the worker dies, which only a fault in pannier or in a third-party storage can do.

        Raises:
            BaseException: What it died of.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        jobs, options, session = self._jobs, self.options, self._jobs.session
        self._loop = asyncio.get_running_loop()
        self._clock = session.clock
        random = Random()
        lanes = self._lanes()
        self._attempts = Attempts()
        self._reporting = Reporting(observers=jobs.observers, clock=session.clock, worker_id=options.worker_id)
        self._settler = Settler(
            storage=session.storage,
            clock=session.clock,
            backoff=Backoff(options.storage_retry_delay, random),
            answered=self._answered,
        )
        self._dispatcher = Dispatcher(
            storage=session.storage,
            clock=session.clock,
            lanes=lanes,
            attempts=self._attempts,
            settler=self._settler,
            backoff=Backoff(options.storage_retry_delay, random),
            worker_id=options.worker_id,
            lease_for=options.lease_for,
            probe_every=options.probe_every or DEFAULT_PROBE[session.notifier is not None],
            max_running=options.max_running,
            claimed=self._reporting.claimed,
        )
        self._execution = Execution(
            queues=jobs,
            invoker=jobs.invoker,
            codec=jobs.codec,
            results=session.results,
            clock=session.clock,
            random=random,
            worker_id=options.worker_id,
            choose_delay=jobs.observers.retry_delay,
            ended=self._dispatcher.ended,
            lost=self._lost_by_report,
        )
        self._dispatcher.use(self._execution)
        self._keeping = self._make_keeping()
        self._warn_of_lost_results(lanes)
        await self._keeping.start()
        session.hints.subscribe(self._notice)
        jobs.listen()
        self._begin(self._settler.run(), "settler")
        self._begin(self._dispatcher.run(), "dispatcher")
        if options.purge_every is not None:
            janitor = Janitor(
                storage=session.storage,
                clock=session.clock,
                every=options.purge_every,
                keep=options.keep,
                random=random,
                expired=self._reporting.expired,
            )
            self._begin(janitor.run(), "janitor")
        queues = ", ".join(lane.registration.queue_id for lane in lanes)
        logger.info("worker %s works on %s: %s", options.worker_id, jobs.storage_name, queues)

    def _lanes(self) -> list[Lane]:
        wanted = self.options.queues
        known = [registration for registration in self._jobs.registry if registration.handler is not None]
        if wanted is not None:
            names = {queue_id for registration in known for queue_id in registration.queue_ids}
            for name in sorted(wanted - names):
                raise ConfigurationError(
                    f"no handler for the queue {name!r} (queues: {', '.join(sorted(names)) or 'none'})"
                )
            known = [registration for registration in known if not wanted.isdisjoint(registration.queue_ids)]
        if not known:
            raise ConfigurationError("a worker needs at least one handler; register one with @jobs.handler()")
        return [Lane(registration, registration.queue_options(self._jobs.defaults)) for registration in known]

    def _make_keeping(self) -> ThreadKeeping | LoopKeeping:
        """
        Renew leases in a thread where the storage can be opened a second time, else on this loop.

        A storage that other processes don't share needs no thread: while this loop is blocked, nobody else claims.
        """
        storage = self._jobs.session.storage
        if storage.capabilities.shared and self._jobs.create_storage() is not None:
            return ThreadKeeping(self._open_another, self._make_keeper)
        return LoopKeeping(self._make_keeper(storage))

    async def _open_another(self) -> JobStorageProvider:
        storage = self._jobs.create_storage()
        assert storage is not None  # noqa: S101  # asked before
        await storage.open()
        return storage

    def _make_keeper(self, storage: JobStorageProvider) -> Keeper:
        return Keeper(
            storage=storage,
            clock=self._clock,
            attempts=self._attempts,
            holder=self,
            call_holder=self._loop.call_soon_threadsafe,
            lease_for=self.options.lease_for,
            renew_every=self.options.renew_every,
        )

    def _warn_of_lost_results(self, lanes: Sequence[Lane]) -> None:
        if self._jobs.session.results is not None:
            return
        for lane in lanes:
            if lane.registration.has_result:
                logger.warning(
                    "%s keeps no results: those of %r are lost", self._jobs.storage_name, lane.registration.queue_id
                )

    def _begin(self, part: Coroutine[object, object, None], name: str) -> None:
        task = self._loop.create_task(part, name=f"pannier {name}")
        task.add_done_callback(_report_death)
        self._tasks.append(task)

    # -- stopping ------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._jobs.session.hints.unsubscribe(self._notice)
        await self._dispatcher.stop(self.options.shutdown_grace)
        if self._execution.running:
            for attempt in list(self._execution.running):
                attempt.ask_to_stop(StopReason.SHUTDOWN)
            await self._dispatcher.stop(CANCEL_GRACE)
        for attempt in self._execution.running:
            logger.warning(
                "job %s still runs and is left behind; it is claimable again when its lease has lapsed",
                attempt.tracking_id,
            )
        if not await self._settler.drain(LAST_TRY):
            logger.error("the storage does not answer: what has just ended runs again when its lease has lapsed")
        await self._keeping.stop()
        await self._end_tasks()
        logger.info("worker %s has stopped", self.options.worker_id)

    async def _end_tasks(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
        tasks = [*self._tasks, *self._telling]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._tasks.clear()

    # -- what the parts tell each other --------------------------------------------------------------------------------

    def _answered(self, batch: Sequence[Attempt], refused: frozenset[Lease]) -> None:
        """The storage has answered outcomes: let go of the leases, tell who waits."""
        is_quiet = self._reporting.is_quiet_on_success
        for attempt in batch:
            self._attempts.drop(attempt)
            if refused and attempt.lease in refused:
                continue
            if isinstance(attempt.outcome, Retry):
                self._dispatcher.expect(attempt.outcome.at)
            elif isinstance(attempt.outcome, Release):
                self._dispatcher.wake()
            if not (is_quiet and type(attempt.outcome) is Succeeded):
                self._reporting.settled(attempt)
        self._jobs.session.hints.finished(attempt.tracking_id for attempt in batch)
        if refused:
            self._tell_lost(refused)
        self._dispatcher.unsettled_fewer()

    def _notice(self, notice: Notice) -> None:
        """A hint: look for jobs, or for cancelled ones."""
        match notice.kind:
            case NoticeKind.QUEUED:
                self._dispatcher.wake()
            case NoticeKind.CANCELLED:
                attempt = self._attempts.of(notice.tracking_id) if notice.tracking_id is not None else None
                if attempt is not None and attempt.phase is not Phase.ENDED:
                    self._cancelled.add(attempt.tracking_id)
                    self._keeping.check([attempt.lease])
            case NoticeKind.MISSED:
                self._dispatcher.wake()
                self._check_soon()
            case NoticeKind.FINISHED:
                pass

    def _check_soon(self) -> None:
        """Check what runs, at most twice a second: some job may have been cancelled."""
        if self._check_timer is None and self._execution.running:
            self._check_timer = self._loop.call_later(CHECK_SECONDS, self._check_running)

    def _check_running(self) -> None:
        self._check_timer = None
        self._keeping.check([attempt.lease for attempt in self._execution.running])

    # -- LeaseHolder ---------------------------------------------------------------------------------------------------

    def lose(self, lost: frozenset[Lease]) -> None:
        """Stop what runs under leases that the storage has refused."""
        told = set()
        for attempt in self._attempts.under_any(lost):
            if attempt.phase is Phase.ENDED:
                continue  # its settlement was on its way; the answer to that decides
            is_cancelled = attempt.tracking_id in self._cancelled
            self._cancelled.discard(attempt.tracking_id)
            self._dispatcher.lose(attempt, StopReason.CANCELLED if is_cancelled else StopReason.LEASE_LOST)
            told.add(attempt.lease)
        if told:
            self._tell_lost(frozenset(told))

    def endanger(self, leases: frozenset[Lease]) -> None:
        """Stop what runs under leases that can't be renewed, before somebody else may start it (E6)."""
        for attempt in self._attempts.under_any(leases):
            if attempt.phase is Phase.RUNNING:
                logger.error("the lease of job %s can't be renewed, its handler is being stopped", attempt.tracking_id)
            self._dispatcher.endanger(attempt)

    def overrun(self, leases: frozenset[Lease]) -> None:
        """Say, and let the program decide, that a handler outlives its lease. Called from the keeper's thread."""
        overrun = [attempt for attempt in self._attempts.under_any(leases) if attempt.phase is Phase.RUNNING]
        if not overrun:
            return
        for attempt in overrun:
            logger.critical("job %s outlives its lease and can't be stopped, it may run twice", attempt.tracking_id)
        if self._overrun is not None:
            self._overrun()
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._tell_overrun, [attempt.job for attempt in overrun])

    def _lost_by_report(self, attempt: Attempt) -> None:
        self.lose(frozenset({attempt.lease}))

    def _tell_overrun(self, jobs: Iterable[JobRecord]) -> None:
        for job in jobs:
            self._reporting.overrun(job)

    def _tell_lost(self, leases: frozenset[Lease]) -> None:
        telling = self._loop.create_task(self._look_up_and_tell(leases), name="pannier lost leases")
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _look_up_and_tell(self, leases: frozenset[Lease]) -> None:
        for lease in leases:
            job: JobRecord | None = None
            with suppress(Exception):  # only the wording depends on it
                job = await self._jobs.session.storage.get_job(lease.tracking_id)
            self._reporting.lost(lease, job)


def _report_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the worker's %s died", task.get_name(), exc_info=task.exception())
