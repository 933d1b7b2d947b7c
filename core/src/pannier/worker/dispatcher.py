"""The dispatcher: asks for as many jobs as there are free slots, over all queues in one claim, and starts them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from pannier.backoff import Backoff
from pannier.clock import Clock
from pannier.context import StopReason
from pannier.records import Claim, Claimed, Demand, JobRecord, Release
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempt, Attempts, Phase
from pannier.worker.execution import Execution
from pannier.worker.failures import died_too_often
from pannier.worker.lanes import Lane
from pannier.worker.settler import Settler
from pannier.worker.solitude import LAST_CHANCE, Solitude

logger = logging.getLogger("pannier.worker")

MAX_UNSETTLED: Final = 2_000
"""So many outcomes may wait for a slow storage before no more jobs are claimed."""

CONTENDED_PAUSE_SECONDS: Final = 0.005
"""How long to wait after a claim that came back empty although jobs were due: others are taking them."""


class Dispatcher:
    """Fills free slots. The only one who claims, and who decides where a claimed job goes."""

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        clock: Clock,
        lanes: Sequence[Lane],
        attempts: Attempts,
        settler: Settler,
        backoff: Backoff,
        worker_id: str,
        lease_for: timedelta,
        probe_every: timedelta,
        max_running: int | None,
        claimed: Callable[[Sequence[JobRecord]], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._lanes = list(lanes)
        self._by_queue = {queue_id: lane for lane in lanes for queue_id in lane.registration.queue_ids}
        self._attempts = attempts
        self._settler = settler
        self._backoff = backoff
        self._worker_id = worker_id
        self._lease_for = lease_for
        self._probe_every = probe_every
        self._max_running = max_running
        self._claimed = claimed
        self._execution: Execution
        self._solitude = Solitude()
        self._signal = asyncio.Event()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_woken = True
        self._is_held_up = False
        self._due: datetime | None = None

    def use(self, execution: Execution) -> None:
        """Start attempts in *execution*, which reports to `ended`."""
        self._execution = execution

    def wake(self) -> None:
        """Look for jobs now: something was queued, or may have been."""
        self._is_woken = True
        self._signal.set()

    def expect(self, at: datetime) -> None:
        """Look for jobs at *at* at the latest: one that was settled here falls due again then (E7)."""
        if self._due is None or at < self._due:
            self._due = at
            self._signal.set()

    def unsettled_fewer(self) -> None:
        """Take note that outcomes were answered: claiming may have waited for that."""
        if self._is_held_up and self._settler.backlog < MAX_UNSETTLED:
            self._signal.set()

    async def run(self) -> None:
        """Claim and start jobs until `stop`."""
        while not self._stopping.is_set():
            self._signal.clear()
            demands = self._demands()
            self._is_held_up = self._settler.backlog >= MAX_UNSETTLED
            if self._is_held_up or not any(demand.limit for demand in demands):
                await self._wait(self._solitude.deadline)
            elif self._is_woken or self._is_due():
                await self._claim(demands)
            else:
                await self._wait(self._due)

    async def stop(self, grace: timedelta) -> None:
        """Claim no more, give back what has not started, and wait at most *grace* for what runs (E5)."""
        self._stopping.set()
        self._signal.set()
        self._give_back_waiting()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace.total_seconds())

    def ended(self, attempt: Attempt) -> None:
        """Take note that a handler has ended: settle its outcome, if any, and fill its slot."""
        lane = attempt.lane
        lane.running -= 1
        attempt.phase = Phase.ENDED
        if attempt.outcome is None:
            self._attempts.drop(attempt)
        else:
            self._settler.settle(attempt)
        if self._solitude.is_wanted:
            self._solitude.ended(attempt)
        if attempt.successor is not None:
            self._place(attempt.successor)
        if lane.ahead or self._max_running is not None:
            self._fill(lane)
        if not self._execution.running:
            self._fall_idle()
        # Waking costs 8 us, so that is only done where a claim could follow.
        if lane.appetite() and (self._is_woken or self._is_due()):
            self._signal.set()

    def lose(self, attempt: Attempt, reason: StopReason) -> None:
        """Stop or forget *attempt*: its lease no longer stands. One that has ended is left to the settler."""
        match attempt.phase:
            case Phase.WAITING:
                self._forget(attempt)
                self._attempts.drop(attempt)
            case Phase.RUNNING:
                attempt.ask_to_stop(reason)
                self._attempts.drop(attempt)
            case Phase.ENDED:
                pass

    def endanger(self, attempt: Attempt) -> None:
        """Stop or give back *attempt*: its lease ends soon and can't be renewed (E6)."""
        match attempt.phase:
            case Phase.WAITING:
                self._forget(attempt)
                self._release(attempt)
            case Phase.RUNNING:
                attempt.ask_to_stop(StopReason.LEASE_ENDING)
            case Phase.ENDED:
                pass

    # -- claiming ------------------------------------------------------------------------------------------------------

    def _demands(self) -> tuple[Demand, ...]:
        """Ask for what every lane wants, within the limit over all of them; the first lane changes each time."""
        if self._solitude.is_wanted:
            return ()
        self._lanes.append(self._lanes.pop(0))
        room = self._room()
        demands = []
        for lane in self._lanes:
            limit = lane.appetite() if room is None else min(lane.appetite(), room)
            if limit and self._solitude.is_resting(lane, self._clock.now()):
                limit = 0
            if room is not None:
                room -= limit
            demands.append(Demand(lane.registration.queue_ids, limit))
        return tuple(demands)

    def _room(self) -> int | None:
        """Return how many more jobs may be here under `max_running`, some of them ahead; None: no such limit."""
        if self._max_running is None:
            return None
        here = sum(lane.running + len(lane.ahead) for lane in self._lanes)
        return max(0, self._max_running + max(lane.ahead_limit for lane in self._lanes) - here)

    async def _claim(self, demands: tuple[Demand, ...]) -> None:
        self._is_woken = False
        now = self._clock.now()
        claim = Claim(
            demands=demands,
            worker_id=self._worker_id,
            now=now,
            lease_for=self._lease_for,
            look_ahead=self._probe_every,
        )
        try:
            claimed = await self._storage.claim_jobs(claim)
        except Exception as error:  # whatever a storage raises, the next claim may pass (E4)
            logger.warning("jobs could not be claimed, trying again: %s", error)
            self._is_woken = True
            await self._sleep(self._backoff.next_seconds())
            return
        self._backoff.reset()
        self._accept(claimed, now + self._lease_for)
        probe = now + self._probe_every
        self._due = probe if claimed.next_due is None else min(probe, claimed.next_due)
        if not claimed.jobs and self._due <= now:
            await self._sleep(CONTENDED_PAUSE_SECONDS)

    def _accept(self, claimed: Claimed, ends_at: datetime) -> None:
        for unreadable in claimed.unreadable:
            self._settler.fail_unreadable(unreadable)
        if not claimed.jobs:
            return
        self._claimed(claimed.jobs)
        lapsed = {id(self._by_queue[job.queue_id]) for job in claimed.jobs if job.lapses}
        lanes = {id(lane): lane for lane in (self._by_queue[job.queue_id] for job in claimed.jobs)}
        for key, lane in lanes.items():
            lane.be_cautious(has_lapsed=key in lapsed)
        for job in _by_urgency(claimed.jobs):
            attempt = Attempt(job, self._by_queue[job.queue_id], ends_at)
            earlier = self._attempts.of(job.tracking_id)
            self._attempts.hold(attempt)
            if earlier is None:
                self._place(attempt)
            else:
                self._supersede(earlier, attempt)
        for lane in lanes.values():
            self._fill(lane)

    def _supersede(self, earlier: Attempt, attempt: Attempt) -> None:
        """Put *attempt* in the place of an *earlier* one of the same job, whose lease lapsed here (E13)."""
        match earlier.phase:
            case Phase.RUNNING:  # never two runs at a time: the new one starts when the old one has ended
                earlier.ask_to_stop(StopReason.LEASE_LOST)
                earlier.successor = attempt
            case Phase.WAITING:
                self._forget(earlier)
                self._place(attempt)
            case Phase.ENDED:
                self._place(attempt)

    def _place(self, attempt: Attempt) -> None:
        """Decide where a claimed job goes; `_fill` starts what waits."""
        lapses = attempt.job.lapses
        if self._stopping.is_set():
            self._release(attempt)
        elif lapses > LAST_CHANCE:
            attempt.phase, attempt.outcome = Phase.ENDED, died_too_often(attempt.job, at=self._clock.now())
            self._settler.settle(attempt)
        elif lapses == LAST_CHANCE:
            self._place_alone(attempt)
        elif lapses == 0:
            attempt.lane.ahead.append(attempt)
        elif self._may_start(attempt.lane):
            self._start(attempt)
        else:
            self._release(attempt)

    def _place_alone(self, attempt: Attempt) -> None:
        """Run a job that has twice outlived its worker with nothing beside it, so that only the killer is condemned."""
        if self._solitude.is_wanted:
            self._release(attempt)
            return
        self._give_back_waiting()
        self._solitude.want(attempt, until=self._clock.now() + self._lease_for)
        if not self._execution.running:
            self._fall_idle()

    # -- slots ---------------------------------------------------------------------------------------------------------

    def _may_start(self, lane: Lane) -> bool:
        if lane.running >= lane.options.max_concurrency or self._solitude.is_wanted:
            return False
        return self._max_running is None or len(self._execution.running) < self._max_running

    def _fill(self, lane: Lane) -> None:
        """Start what waits in *lane*, and under a limit over all lanes in the others as well."""
        while lane.ahead and self._may_start(lane):
            self._start(lane.ahead.popleft())
        if self._max_running is not None:
            for other in self._lanes:
                while other.ahead and self._may_start(other):
                    self._start(other.ahead.popleft())

    def _start(self, attempt: Attempt) -> None:
        self._idle.clear()
        self._execution.start(attempt)

    def _fall_idle(self) -> None:
        """Nothing runs any more: start what waits to be alone, or let claiming go on."""
        alone = self._solitude.take()
        if alone is not None:
            self._start(alone)
            return
        self._idle.set()
        self._signal.set()

    def _give_back_waiting(self) -> None:
        """Release every job that is claimed but not started."""
        for lane in self._lanes:
            waiting = list(lane.ahead)
            lane.ahead.clear()
            for attempt in waiting:
                self._release(attempt)
        alone = self._solitude.give_up(rest_until=self._clock.now() + self._lease_for)
        if alone is not None:
            self._release(alone)

    def _forget(self, attempt: Attempt) -> None:
        """Take *attempt* out of where it waits."""
        with suppress(ValueError):
            attempt.lane.ahead.remove(attempt)
        self._solitude.discard(attempt)

    def _release(self, attempt: Attempt) -> None:
        attempt.phase, attempt.outcome = Phase.ENDED, Release()
        self._settler.settle(attempt)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return self._due is not None and self._due <= self._clock.now()

    async def _wait(self, until: datetime | None) -> None:
        """Wait for a signal, at most *until*."""
        if until is None:
            await self._signal.wait()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._signal.wait(), max(0.0, (until - self._clock.now()).total_seconds()))
        deadline = self._solitude.deadline
        if deadline is not None and deadline <= self._clock.now():
            self._give_back_waiting()

    async def _sleep(self, seconds: float) -> None:
        """Wait for *seconds*, or until the worker is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _by_urgency(jobs: Sequence[JobRecord]) -> Iterable[JobRecord]:
    """
    Return *jobs* in the order to start them in: those whose worker died first, then by priority.

    Inside a priority the storage's order stands. Most claims need no sorting, and looking is cheaper.
    """
    first = jobs[0].priority
    if any(job.lapses or job.priority != first for job in jobs):
        return sorted(jobs, key=lambda job: (-job.lapses, -job.priority))
    return jobs
