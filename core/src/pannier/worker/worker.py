"""The worker: puts its parts together, starts them, and stops them in order."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pannier.backoff import Backoff
from pannier.context import StopReason
from pannier.errors import ConfigurationError
from pannier.records import Lease
from pannier.session import DEFAULT_PROBE
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt, Attempts
from pannier.worker.dispatcher import Dispatcher
from pannier.worker.execution import Execution
from pannier.worker.holder import Holder
from pannier.worker.janitor import Janitor
from pannier.worker.keeper import Keeper
from pannier.worker.keeping import LoopKeeping, ThreadKeeping
from pannier.worker.lanes import Lane
from pannier.worker.options import WorkerOptions
from pannier.worker.reporting import Reporting
from pannier.worker.settler import Settler
from pannier.worker.slots import Slots
from pannier.worker.waker import Waker

if TYPE_CHECKING:
    from pannier.queues import JobQueues

logger = logging.getLogger("pannier.worker")

CANCEL_GRACE: Final = timedelta(seconds=5)
"""How long handlers that were told to stop at shutdown may clean up."""

LAST_TRY: Final = timedelta(seconds=10)
"""How long a stopping worker waits for its last claim, and goes on trying to settle what has ended."""


class Worker:
    """
    Executes jobs from when it is entered until it is left. Made by `JobQueues.worker`, and used once.

    Leaving it stops claiming, gives running handlers a grace period, then cancels and releases them, so that no attempt
    is burnt (E5).
    """

    def __init__(self, jobs: "JobQueues", options: WorkerOptions, *, overrun: Callable[[], None] | None = None) -> None:
        self.options = options
        self._jobs = jobs
        self._overrun = overrun
        self._parts: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Worker":
        await self._jobs.__aenter__()
        try:
            self._compose()
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._drain()
        finally:
            await self._end()

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
        done, _ = await asyncio.wait(self._parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()

    # -- composing -----------------------------------------------------------------------------------------------------

    def _compose(self) -> None:
        jobs, session = self._jobs, self._jobs.session
        self._clock, self._storage, self._random = session.clock, session.storage, jobs.environment.random
        self._probe_every = self.options.probe_every or DEFAULT_PROBE[session.notifier is not None]
        self._lanes = self._make_lanes()
        self._attempts = Attempts()
        self._reporting = Reporting(observers=jobs.observers, clock=self._clock, worker_id=self.options.worker_id)
        self._waker = Waker(clock=self._clock, lanes=self._lanes, probe_every=self._probe_every)
        self._settler = Settler(
            storage=self._storage, clock=self._clock, backoff=self._make_backoff(), answered=self._answered
        )
        self._slots = Slots(
            clock=self._clock,
            lanes=self._lanes,
            attempts=self._attempts,
            settler=self._settler,
            waker=self._waker,
            lease_for=self.options.lease_for,
            max_running=self.options.max_running,
        )
        self._dispatcher = self._make_dispatcher()
        self._execution = self._make_execution()
        self._slots.use(self._execution)
        self._holder = Holder(
            storage=self._storage,
            attempts=self._attempts,
            slots=self._slots,
            waker=self._waker,
            execution=self._execution,
            reporting=self._reporting,
            hints=session.hints,
            end_process=self._overrun,
        )
        self._keeping = self._make_keeping()
        self._holder.use(self._keeping.check)

    def _make_lanes(self) -> list[Lane]:
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

    def _make_backoff(self) -> Backoff:
        return Backoff(self.options.storage_retry_delay, self._random)

    def _make_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            storage=self._storage,
            clock=self._clock,
            lanes=self._lanes,
            slots=self._slots,
            waker=self._waker,
            attempts=self._attempts,
            settler=self._settler,
            backoff=self._make_backoff(),
            worker_id=self.options.worker_id,
            lease_for=self.options.lease_for,
            look_ahead=self._probe_every,
            claimed=self._reporting.claimed,
        )

    def _make_execution(self) -> Execution:
        return Execution(
            queues=self._jobs,
            invoker=self._jobs.invoker,
            codec=self._jobs.codec,
            results=self._jobs.session.results,
            clock=self._clock,
            random=self._random,
            worker_id=self.options.worker_id,
            choose_delay=self._jobs.observers.retry_delay,
            ended=self._slots.ended,
            lost=lambda attempt: self._holder.lose([attempt.lease]),
        )

    def _make_keeping(self) -> ThreadKeeping | LoopKeeping:
        """
        Renew leases in a thread where the storage can be opened a second time, else on this loop.

        A storage that other processes don't share needs no thread: while this loop is blocked, nobody else claims.
        """
        create_another = self._jobs.create_another_storage
        if self._storage.capabilities.shared and create_another is not None:
            return ThreadKeeping(
                create_storage=create_another,
                make_keeper=self._make_keeper,
                threads=self._jobs.environment.threads,
            )
        return LoopKeeping(self._make_keeper(self._storage))

    def _make_keeper(self, storage: JobStorageProvider) -> Keeper:
        return Keeper(
            storage=storage,
            clock=self._clock,
            attempts=self._attempts,
            holder=self._holder,
            call_holder=self._jobs.session.loop.call_soon_threadsafe,
            lease_for=self.options.lease_for,
            renew_every=self.options.renew_every,
        )

    def _make_janitor(self, every: timedelta) -> Janitor:
        return Janitor(
            storage=self._storage,
            clock=self._clock,
            every=every,
            keep=self.options.keep,
            random=self._random,
            expired=self._reporting.expired,
        )

    def _answered(self, batch: Sequence[Attempt], refused: frozenset[Lease]) -> None:
        self._holder.answered(batch, refused)
        self._dispatcher.settled()

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._keeping.start()
        self._begin(self._keeping.run(), "keeper")
        self._begin(self._settler.run(), "settler")
        self._begin(self._dispatcher.run(), "dispatcher")
        if self.options.purge_every is not None:
            self._begin(self._make_janitor(self.options.purge_every).run(), "janitor")
        self._jobs.session.hints.subscribe(self._holder.notice)
        self._jobs.listen()
        self._warn_of_lost_results()
        queues = ", ".join(lane.registration.queue_id for lane in self._lanes)
        logger.info("worker %s works on %s: %s", self.options.worker_id, self._jobs.storage_name, queues)

    def _begin(self, part: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(part, name=f"pannier {name}")
        task.add_done_callback(_report_death)
        self._parts.append(task)

    def _warn_of_lost_results(self) -> None:
        if self._jobs.session.results is not None:
            return
        for lane in self._lanes:
            if lane.registration.has_result:
                logger.warning(
                    "%s keeps no results: those of %r are lost", self._jobs.storage_name, lane.registration.queue_id
                )

    # -- stopping ------------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Let running handlers end, and settle everything, as far as that is possible (E5)."""
        self._dispatcher.stop()
        self._slots.close()
        await self._slots.wait_until_idle(self.options.shutdown_grace)
        self._execution.ask_all_to_stop(StopReason.SHUTDOWN)
        await self._slots.wait_until_idle(CANCEL_GRACE)
        for attempt in self._execution.running.values():
            logger.warning(
                "job %s still runs and is left behind; it is claimable again when its lease has lapsed",
                attempt.tracking_id,
            )
        await self._dispatcher.wait_until_stopped(LAST_TRY)  # what its last claim brought is given back
        if not await self._settler.drain(LAST_TRY):
            logger.error("the storage does not answer: what has just ended runs again when its lease has lapsed")

    async def _end(self) -> None:
        """End every part, in whatever state, and close the job queues."""
        if self._parts:
            self._jobs.session.hints.unsubscribe(self._holder.notice)
            await asyncio.sleep(0)  # a task that is cancelled before its first step can't clean up
            for part in self._parts:
                part.cancel()
            await asyncio.wait(self._parts)
            await self._holder.close()
            logger.info("worker %s has stopped", self.options.worker_id)
        await self._jobs.__aexit__()


def _report_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the worker's %s died", task.get_name(), exc_info=task.exception())
