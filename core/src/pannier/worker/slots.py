"""Slots: where claimed jobs go. Starts them, keeps a few waiting, and fills each slot as soon as it is freed (E1)."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from pannier.clock import Clock
from pannier.context import StopReason
from pannier.records import JobRecord
from pannier.settlements import Release
from pannier.worker.attempts import Attempt, Attempts, Phase
from pannier.worker.execution import Execution
from pannier.worker.failures import died_too_often
from pannier.worker.keeper import LOOKS, MARGIN
from pannier.worker.lanes import Lane
from pannier.worker.settler import Settler
from pannier.worker.solitude import LAST_CHANCE, Solitude
from pannier.worker.waker import Waker

PATIENCE: Final = timedelta(seconds=1)
"""So long, twice at most, claimed jobs wait for a slot while none is freed; then other workers may have them."""


class Slots:
    """The slots of all lanes, and the limits that hold over all of them."""

    def __init__(
        self,
        *,
        clock: Clock,
        lanes: Sequence[Lane],
        attempts: Attempts,
        settler: Settler,
        waker: Waker,
        lease_for: timedelta,
        max_running: int | None,
    ) -> None:
        self._clock = clock
        self._lanes = list(lanes)
        self._by_queue = {queue_id: lane for lane in lanes for queue_id in lane.registration.queue_ids}
        self._attempts = attempts
        self._settler = settler
        self._waker = waker
        self._lease_for = lease_for
        self._least_left = lease_for / MARGIN + lease_for / LOOKS
        self._max_running = max_running
        self._execution: Execution
        self._solitude = Solitude(lease_for=lease_for)
        self._is_cautious = False
        self._is_closed = False
        self._is_filling = False
        self._fell_idle = asyncio.Event()
        self._look_at: datetime | None = None
        self._seen: dict[Lane, int] = {}

    def use(self, execution: Execution) -> None:
        """Start attempts in *execution*, which reports to `ended`."""
        self._execution = execution

    # -- taking in -----------------------------------------------------------------------------------------------------

    def lane_of(self, queue_id: str) -> Lane:
        """Return the lane that serves *queue_id*."""
        return self._by_queue[queue_id]

    def appetites(self, now: datetime) -> dict[Lane, int]:
        """Return the lanes that are worth asking about at *now*, and how many jobs each of them could take in."""
        if self._is_closed:
            return {}
        if self._solitude.is_wanted:
            return self._appetite_for_one(now)
        due = [lane for lane in self._lanes if lane.wakes_at <= now]
        if self._max_running is None:
            return {lane: appetite for lane in due if (appetite := lane.appetite())}
        room = self._max_running - sum(lane.running + len(lane.ahead) for lane in self._lanes)
        appetites = {}
        for lane in due:
            appetite = max(0, min(lane.appetite(), room + lane.ahead_limit))
            room -= appetite
            if appetite:
                appetites[lane] = appetite
        self._lanes.sort(key=appetites.__contains__)  # who gets something now comes last the next time
        return appetites

    def _appetite_for_one(self, now: datetime) -> dict[Lane, int]:
        """Return the lane to claim a single job of, which is then alone here; none while this worker holds others."""
        if self._execution.running or len(self._attempts):
            return {}
        lane = self._solitude.next_lane(now=now)
        return {} if lane is None else {lane: 1}

    def take_in(self, jobs: Sequence[JobRecord], *, ends_at: datetime) -> None:
        """Start claimed *jobs*, let them wait, or give them back."""
        # In their order, which a set of text would not keep from one process to the next.
        lanes = {queue_id: self._by_queue[queue_id] for queue_id in dict.fromkeys([job.queue_id for job in jobs])}
        self._be_cautious(has_lapsed=any(job.lapses for job in jobs))
        running, now = self._execution.running, self._clock.now()
        if self._solitude.is_turn and not any(0 < job.lapses < LAST_CHANCE for job in jobs):  # more of those: at once
            for lane in lanes.values():
                self._solitude.want(lane, now=now)
        attempts = [Attempt(job, lanes[job.queue_id], ends_at) for job in _by_urgency(jobs)]
        earlier = self._attempts.hold(attempts, ends_at=ends_at)  # all, before one starts: is it alone?
        may_wait = not (self._is_cautious or self._is_closed or self._is_too_late(attempts[0], now))
        for attempt, before in zip(attempts, earlier, strict=True):
            if before is not None or attempt.key in running:
                self._take_in_again(attempt, before, now)
            elif may_wait:
                attempt.lane.ahead.append(attempt)  # as `_place` would say of each: 0.25 us less
            else:
                self._place(attempt, now)
        for lane in lanes.values():
            self._fill(lane)

    def _be_cautious(self, *, has_lapsed: bool) -> None:
        """Claim nothing ahead, in no lane, while claims find jobs whose worker had died: it may happen here next."""
        if has_lapsed is not self._is_cautious:
            self._is_cautious = has_lapsed
            for lane in self._lanes:
                lane.be_cautious(has_lapsed=has_lapsed)

    def _take_in_again(self, attempt: Attempt, earlier: Attempt | None, now: datetime) -> None:
        """Take in a job that this worker has had before, and may still run."""
        if earlier is not None and earlier.phase is Phase.WAITING:
            self._forget(earlier)
        still_running = self._execution.run_of(attempt.tracking_id)
        if still_running is None:
            self._place(attempt, now)
        else:  # never two runs at a time: the new one starts when the old one has ended (E13)
            still_running.ask_to_stop(StopReason.LEASE_LOST)
            still_running.successor = attempt

    def _place(self, attempt: Attempt, now: datetime) -> None:
        """
        Decide where a claimed job goes; `_fill` starts what waits.

        A claim that was answered so late that its leases are about to end, or others may run the jobs, is given back.
        """
        lapses = attempt.job.lapses
        if self._is_closed or self._is_too_late(attempt, now):
            self._release(attempt)
        elif not lapses:
            attempt.lane.ahead.append(attempt)
        elif lapses > LAST_CHANCE:
            attempt.phase, attempt.outcome = Phase.ENDED, died_too_often(attempt.job, at=now)
            self._settler.settle(attempt)
        elif lapses == LAST_CHANCE:
            self._place_last_chance(attempt, now)
        elif self._may_start(attempt.lane):
            self._execution.start(attempt)
        else:
            self._release(attempt)

    def _place_last_chance(self, attempt: Attempt, now: datetime) -> None:
        """
        Start a job that has twice outlived its worker if this one runs and holds nothing else, or give it back.

        Only the killer is condemned then: what ran beside it would share its fate, and so would it, waiting here.
        """
        if self._execution.running or len(self._attempts) > 1:
            self._release(attempt)
            self._solitude.want(attempt.lane, now=now)
        else:
            self._solitude.begin(attempt)
            self._execution.start(attempt)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _may_start(self, lane: Lane) -> bool:
        if lane.running >= lane.options.max_concurrency:
            return False
        return self._max_running is None or len(self._execution.running) < self._max_running

    def _fill(self, lane: Lane) -> None:
        """
        Start what waits in *lane*, and under a limit over all lanes in the others as well.

        A handler may end while it is started. The loop that has started it sees its slot free again.
        """
        self._is_filling = True
        for filled in [lane] if self._max_running is None else [lane, *self._lanes]:
            while filled.ahead and self._may_start(filled):
                self._start_in_time(filled.ahead.popleft())
        self._is_filling = False
        self._look_after(lane)

    def ended(self, attempt: Attempt) -> None:
        """Take note that a handler has ended: settle its outcome, if any, and let its slot be filled."""
        lane = attempt.lane
        lane.running -= 1
        attempt.phase = Phase.ENDED
        if attempt.outcome is None:
            self._attempts.drop(attempt)
        else:
            self._settler.settle(attempt)
        if attempt.job.lapses:
            self._solitude.ended(attempt)
        successor = attempt.successor
        if successor is not None and successor.phase is Phase.WAITING:
            self._place(successor, self._clock.now())
        if self._is_filling:
            return
        if lane.ahead or self._max_running is not None:
            self._fill(lane)
        else:
            self._look_after(lane)

    def _look_after(self, lane: Lane) -> None:
        """Ask for more jobs where slots of *lane* are free and nothing waits for them."""
        if not self._execution.running:
            self._fall_idle()
        elif self._max_running is not None:
            self._waker.stir()
        elif lane.appetite():
            self._waker.freed(lane)

    def _fall_idle(self) -> None:
        """Nothing runs any more: somebody may have waited for that."""
        self._fell_idle.set()
        self._waker.stir()

    def settled(self) -> None:
        """Take note that outcomes were answered: a last chance may have waited for that."""
        if self._solitude.is_wanted and not len(self._attempts):
            self._waker.stir()

    def _start_in_time(self, attempt: Attempt) -> None:
        """
        Start what has waited here, or give it back where its lease has ended meanwhile, or is about to.

        A process that stood still, or whose loop was blocked, comes here before the keeper can tell it what it lost.
        """
        if self._is_too_late(attempt, self._clock.now()):
            self._release(attempt)
            self._waker.stir()
        else:
            self._execution.start(attempt)

    def _is_too_late(self, attempt: Attempt, now: datetime) -> bool:
        """Whether its lease has ended, or is about to, so that the keeper would stop it at its next look."""
        return attempt.ends_at <= now + self._least_left

    # -- letting go ----------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> datetime | None:
        """When `tend` wants to be called again; None: not before something changes."""
        known = [at for at in (self._solitude.deadline, self._look_at) if at is not None]
        return min(known, default=None)

    def tend(self, now: datetime) -> None:
        """Give back what has waited too long by *now* for a slot, and end what has lasted too long."""
        self._solitude.tend(now)
        if self._look_at is not None and timedelta(0) < self._look_at - now <= PATIENCE:  # more: the clock was set back
            return
        for lane, started in self._seen.items():
            if lane.ahead and lane.started == started:
                lane.stall()
                self._give_back_ahead(lane)
        self._seen = {lane: lane.started for lane in self._lanes if lane.ahead}
        self._look_at = now + PATIENCE if self._seen else None

    def close(self) -> None:
        """Start nothing more, and give back what has not started (E5)."""
        self._is_closed = True
        self._solitude.stop()
        for lane in self._lanes:
            self._give_back_ahead(lane)

    async def wait_until_idle(self, timeout: timedelta) -> None:
        """Wait until no handler runs any more, at most *timeout*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                while self._execution.running:
                    self._fell_idle.clear()
                    await self._fell_idle.wait()

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

    def _give_back_ahead(self, lane: Lane) -> None:
        waiting = list(lane.ahead)
        lane.ahead.clear()
        for attempt in waiting:
            self._release(attempt)

    def _forget(self, attempt: Attempt) -> None:
        """Take *attempt* out of where it waits: for a slot, or for its predecessor's end."""
        with suppress(ValueError):
            attempt.lane.ahead.remove(attempt)
        attempt.phase = Phase.ENDED
        self._waker.stir()

    def _release(self, attempt: Attempt) -> None:
        attempt.phase, attempt.outcome = Phase.ENDED, Release()
        self._settler.settle(attempt)


def _by_urgency(jobs: Sequence[JobRecord]) -> Iterable[JobRecord]:
    """
    Return *jobs* in the order to start them in: those whose worker died first, then by priority.

    Inside a priority the storage's order stands. Most claims need no sorting, and looking is cheaper.
    """
    first = jobs[0].priority
    if any(job.lapses or job.priority != first for job in jobs):
        return sorted(jobs, key=lambda job: (-job.lapses, -job.priority))
    return jobs
