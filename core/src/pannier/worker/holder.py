"""The holder: answers for the leases of this worker. What the storage, the keeper and hints say of them ends here."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final

from pannier.context import StopReason
from pannier.hints import Hints
from pannier.notices import Notice, NoticeKind
from pannier.records import JobRecord, Lease
from pannier.settlements import Release, Retry, Succeeded
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt, Attempts, Phase
from pannier.worker.execution import Execution
from pannier.worker.reporting import Reporting
from pannier.worker.slots import Slots
from pannier.worker.waker import AT_ONCE, Waker

logger = logging.getLogger("pannier.worker")

CHECK_SECONDS: Final = 0.5
"""How often at most held leases are checked because of hints that name no job; a cancel is noticed within a second."""


class Holder:
    """Passes on what becomes of leases: to the slots, to the waker, to whoever waits for a job, and to the log."""

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        attempts: Attempts,
        slots: Slots,
        waker: Waker,
        execution: Execution,
        reporting: Reporting,
        hints: Hints,
        end_process: Callable[[], None] | None,
    ) -> None:
        self._storage = storage
        self._attempts = attempts
        self._slots = slots
        self._waker = waker
        self._execution = execution
        self._reporting = reporting
        self._hints = hints
        self._end_process = end_process
        self._loop = asyncio.get_running_loop()
        self._check: Callable[[Iterable[Lease]], object]
        self._check_timer: asyncio.TimerHandle | None = None
        self._telling: dict[asyncio.Task[None], None] = {}

    def use(self, check: Callable[[Iterable[Lease]], object]) -> None:
        """Let *check* renew leases that are in doubt."""
        self._check = check

    async def close(self) -> None:
        """Stop everything that was begun here."""
        if self._check_timer is not None:
            self._check_timer.cancel()
        for telling in self._telling:
            telling.cancel()
        if self._telling:
            await asyncio.wait(tuple(self._telling))

    # -- what the settler hears ----------------------------------------------------------------------------------------

    def answered(self, batch: Sequence[Attempt], refused: frozenset[Lease]) -> None:
        """The storage has answered outcomes: let go of the leases, tell who waits."""
        is_quiet = self._reporting.is_quiet_on_success
        lost: list[JobRecord] = []
        self._attempts.drop(*batch)
        for attempt in batch:
            outcome = attempt.outcome
            if refused and attempt.lease in refused:
                lost.append(attempt.job)
            elif not (is_quiet and type(outcome) is Succeeded):
                self._reporting.settled(attempt)
                self._expect_again(attempt)
        self._slots.settled()
        self._hints.finished(attempt.tracking_id for attempt in batch)
        self._tell_lost(lost)

    def _expect_again(self, attempt: Attempt) -> None:
        """Let what is to be tried again be found when it is due: no storage pushes to whoever wrote (E7)."""
        if isinstance(attempt.outcome, Retry):
            self._waker.expect(attempt.lane, attempt.outcome.at)
        elif isinstance(attempt.outcome, Release):
            self._waker.expect(attempt.lane, AT_ONCE)

    # -- what hints say ------------------------------------------------------------------------------------------------

    def notice(self, notice: Notice) -> None:
        """Look for jobs, or for cancelled ones, because of a hint."""
        match notice.kind:
            case NoticeKind.QUEUED:
                self._waker.wake(notice.queue_id)
            case NoticeKind.CANCELLED:
                attempt = self._attempts.of(notice.tracking_id) if notice.tracking_id is not None else None
                if attempt is not None and attempt.phase is not Phase.ENDED:
                    attempt.is_cancelled = True
                    self._check([attempt.lease])
            case NoticeKind.MISSED:
                self._waker.wake_all()
                self._check_soon()
            case NoticeKind.FINISHED:
                pass

    def _check_soon(self) -> None:
        """Check what runs, at most twice a second: some job may have been cancelled."""
        if self._check_timer is None and self._execution.running:
            self._check_timer = self._loop.call_later(CHECK_SECONDS, self._check_running)

    def _check_running(self) -> None:
        self._check_timer = None
        self._check([attempt.lease for attempt in self._execution.running.values()])

    # -- LeaseHolder ---------------------------------------------------------------------------------------------------

    def lose(self, lost: Collection[Lease]) -> None:
        """Stop what runs under leases that the storage has refused."""
        told: list[JobRecord] = []
        for attempt in self._attempts.under_any(lost):
            if attempt.phase is Phase.ENDED:
                continue  # its settlement is on its way; the answer to that decides
            self._slots.lose(attempt, StopReason.CANCELLED if attempt.is_cancelled else StopReason.LEASE_LOST)
            told.append(attempt.job)
        self._tell_lost(told)

    def endanger(self, leases: frozenset[Lease]) -> None:
        """Stop what runs under leases that can't be renewed, before somebody else may start it (E6)."""
        for attempt in self._attempts.under_any(leases):
            if attempt.phase is Phase.RUNNING:
                logger.error("the lease of job %s can't be renewed, its handler is being stopped", attempt.tracking_id)
            self._slots.endanger(attempt)

    def overrun(self, leases: frozenset[Lease]) -> None:
        """Say, and let the program decide, that a handler outlives its lease. Called from the keeper's thread."""
        overrun = [attempt for attempt in self._attempts.under_any(leases) if attempt.phase is Phase.RUNNING]
        if not overrun:
            return
        for attempt in overrun:
            logger.critical("job %s outlives its lease and can't be stopped, it may run twice", attempt.tracking_id)
        if self._end_process is not None:
            self._end_process()
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._tell_overrun, [attempt.job for attempt in overrun])

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell_overrun(self, jobs: Iterable[JobRecord]) -> None:
        for job in jobs:
            self._reporting.overrun(job)

    def _tell_lost(self, jobs: Sequence[JobRecord]) -> None:
        if jobs:
            telling = self._loop.create_task(self._look_up_and_tell(jobs), name="pannier lost leases")
            self._telling[telling] = None
            telling.add_done_callback(self._telling.pop)

    async def _look_up_and_tell(self, jobs: Sequence[JobRecord]) -> None:
        for job in jobs:
            found: JobRecord | None = None
            with suppress(Exception):  # only the wording depends on it
                found = await self._storage.get_job(job.tracking_id)
            self._reporting.lost(job, found=found)
