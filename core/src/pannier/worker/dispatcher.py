"""The dispatcher: asks for as many jobs as there are free slots, over all queues in one claim, and starts them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from pannier.clock import Clock
from pannier.context import StopReason
from pannier.records import Claim, Claimed, Demand, Failed, JobError, JobRecord, Lease, Outcome, Release, Unreadable
from pannier.storage import JobStorageProvider
from pannier.worker.backoff import Backoff
from pannier.worker.execution import Execution, Run
from pannier.worker.failures import died_too_often
from pannier.worker.lanes import Lane
from pannier.worker.leases import HeldLeases
from pannier.worker.settler import Ended, Settler
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
        held: HeldLeases,
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
        self._held = held
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
        """Start jobs in *execution*, whose `ended` is this dispatcher's."""
        self._execution = execution

    def wake(self) -> None:
        """Look for jobs now: something was queued, or may have been."""
        self._is_woken = True
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
        for job in self._waiting():
            self._release(job)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace.total_seconds())

    def ended(self, run: Run, outcome: Outcome | None) -> None:
        """Take note that *run* has ended: settle *outcome*, if any, and fill its slot."""
        lane = run.lane
        lane.running -= 1
        if self._execution.runs.get(run.tracking_id) is run:
            del self._execution.runs[run.tracking_id]
        if outcome is None:
            self._held.drop(run.lease)
        else:
            self._settler.settle(Ended(run.job, run.lease, outcome))
        if run.successor is not None:
            self._place(run.successor, lane)
        self._solitude.ended(run.lease)
        self._fill(lane)
        if not self._execution.runs:
            self._idle.set()
            self._end_solitude()
        # Waking costs 8 us, so that is only done where a claim could follow.
        if (self._is_woken or self._is_due()) and lane.appetite():
            self._signal.set()

    def lose(self, lost: Iterable[Lease], reason: StopReason) -> None:
        """Stop what runs, and forget what waits, under leases that no longer stand."""
        for lease in lost:
            run = self._execution.runs.get(lease.tracking_id)
            if run is not None and run.lease == lease:
                run.ask_to_stop(reason)
            for lane in self._lanes:
                lane.discard(lease)
            self._solitude.discard(lease)
            self._held.drop(lease)

    def endanger(self, leases: Iterable[Lease]) -> None:
        """Stop what runs, and give back what waits, under leases that end soon and can't be renewed."""
        for lease in leases:
            run = self._execution.runs.get(lease.tracking_id)
            if run is not None and run.lease == lease:
                run.ask_to_stop(StopReason.LEASE_ENDING)
            for lane in self._lanes:
                job = lane.discard(lease)
                if job is not None:
                    self._release(job)

    def unsettled_fewer(self) -> None:
        """Take note that outcomes were answered: claiming may have waited for that."""
        if self._is_held_up and self._settler.backlog < MAX_UNSETTLED:
            self._signal.set()

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
            if self._solitude.is_resting(lane.registration.queue_id, self._clock.now()):
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
        return max(0, self._max_running + max(lane.ahead_limit() for lane in self._lanes) - here)

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
        self._accept(claimed, now)
        probe = now + self._probe_every
        self._due = probe if claimed.next_due is None else min(probe, claimed.next_due)
        if not claimed.jobs and self._due <= now:
            await self._sleep(CONTENDED_PAUSE_SECONDS)

    def _accept(self, claimed: Claimed, now: datetime) -> None:
        if not claimed.jobs and not claimed.unreadable:
            return
        leases = [job.lease for job in claimed.jobs] + [unreadable.lease for unreadable in claimed.unreadable]
        self._held.hold(leases, now + self._lease_for)
        for unreadable in claimed.unreadable:
            self._settle_unreadable(unreadable, now)
        if not claimed.jobs:
            return
        self._claimed(claimed.jobs)
        touched: dict[int, Lane] = {}
        # Stable: inside a priority the storage's order stands. Jobs whose worker died start before anything is held
        # ahead.
        for job in sorted(claimed.jobs, key=lambda job: (-job.lapses, -job.priority)):
            lane = self._by_queue[job.queue_id]
            if id(lane) not in touched:
                touched[id(lane)] = lane
                lane.is_cautious = job.lapses > 0
            self._place(job, lane)
        for lane in touched.values():
            self._fill(lane)

    def _place(self, job: JobRecord, lane: Lane) -> None:
        """Decide where the claimed *job* goes; `_fill` starts what waits."""
        running = self._execution.runs.get(job.tracking_id)
        if self._stopping.is_set():
            self._release(job)
        elif job.lapses > LAST_CHANCE:
            self._settler.settle(Ended(job, job.lease, died_too_often(job, at=self._clock.now())))
        elif running is not None:  # its own lease lapsed while it ran: never two runs at a time (E13)
            running.ask_to_stop(StopReason.LEASE_LOST)
            running.successor = job
        elif job.lapses == LAST_CHANCE:
            self._place_alone(job, lane)
        elif job.lapses == 0:
            lane.ahead.append(job)
        elif self._may_start(lane):
            self._start(job, lane)
        else:
            self._release(job)

    def _place_alone(self, job: JobRecord, lane: Lane) -> None:
        """Run a job that has twice outlived its worker with nothing beside it, so that only the killer is condemned."""
        if self._solitude.is_wanted:
            self._release(job)
            return
        for waiting in self._waiting():
            self._release(waiting)
        self._solitude.want(job, lane.registration.queue_id, until=self._clock.now() + self._lease_for)
        if not self._execution.runs:
            self._end_solitude()

    def _end_solitude(self) -> None:
        """Start the job that waits to be alone: nothing runs any more."""
        job = self._solitude.take()
        if job is not None:
            self._start(job, self._by_queue[job.queue_id])
        elif not self._solitude.is_wanted:
            self._signal.set()

    # -- slots ---------------------------------------------------------------------------------------------------------

    def _may_start(self, lane: Lane) -> bool:
        if lane.free <= 0 or self._solitude.is_wanted:
            return False
        return self._max_running is None or len(self._execution.runs) < self._max_running

    def _fill(self, lane: Lane) -> None:
        """Start what waits in *lane*, and where a limit over all lanes was met, in the others as well."""
        while lane.ahead and self._may_start(lane):
            self._start(lane.ahead.popleft(), lane)
        if self._max_running is not None:
            for other in self._lanes:
                while other.ahead and self._may_start(other):
                    self._start(other.ahead.popleft(), other)

    def _start(self, job: JobRecord, lane: Lane) -> None:
        self._idle.clear()
        self._execution.start(job, lane)

    def _waiting(self) -> list[JobRecord]:
        """Take out every job that is claimed but not started."""
        waiting = [job for lane in self._lanes for job in lane.ahead]
        for lane in self._lanes:
            lane.ahead.clear()
        alone = self._solitude.give_up(rest_until=self._clock.now() + self._lease_for)
        return waiting if alone is None else [*waiting, alone]

    def _release(self, job: JobRecord) -> None:
        self._settler.settle(Ended(job, job.lease, Release()))

    def _settle_unreadable(self, unreadable: Unreadable, now: datetime) -> None:
        error = JobError(attempt=1, at=now, kind="pannier.errors.DecodingError", message=unreadable.reason)
        self._settler.settle(Ended(None, unreadable.lease, Failed(error)))

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
        if self._solitude.is_over(self._clock.now()):
            for job in self._waiting():
                self._release(job)

    async def _sleep(self, seconds: float) -> None:
        """Wait for *seconds*, or until the worker is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
