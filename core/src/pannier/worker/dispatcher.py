"""The dispatcher: asks for as many jobs as there are free slots, over all queues in one claim."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from pannier.backoff import Backoff
from pannier.claims import Claim, Claimed, Demand
from pannier.clock import Clock
from pannier.records import JobRecord
from pannier.storage import JobStorageProvider
from pannier.worker.attempts import Attempts
from pannier.worker.lanes import Lane
from pannier.worker.settler import Settler
from pannier.worker.slots import Slots
from pannier.worker.waker import AT_ONCE, Waker

logger = logging.getLogger("pannier.worker")

MAX_UNSETTLED: Final = 2_000
"""So many outcomes may wait for a slow storage before no more jobs are claimed."""

CONTENDED_PAUSE: Final = timedelta(milliseconds=5)
LONGEST_CONTENDED_PAUSE: Final = timedelta(milliseconds=250)
"""How long to wait after a claim that came back empty although jobs were due: others are taking them. Doubled each time
that it happens again: an open transaction may hold a lapsed lease for as long as it likes."""

LAPSED_PAUSE_SECONDS: Final = 0.05
"""How long to wait for the keeper where this worker's own leases have lapsed: after a blocked loop, a suspension, an
outage. A claim before they are renewed would take the worker's own jobs away from it."""


class Dispatcher:
    """Fills free slots. The only one who claims."""

    def __init__(
        self,
        *,
        storage: JobStorageProvider,
        clock: Clock,
        lanes: Sequence[Lane],
        slots: Slots,
        waker: Waker,
        attempts: Attempts,
        settler: Settler,
        backoff: Backoff,
        worker_id: str,
        lease_for: timedelta,
        look_ahead: timedelta,
        claimed: Callable[[Sequence[JobRecord]], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._lanes = tuple(lanes)
        self._slots = slots
        self._waker = waker
        self._attempts = attempts
        self._settler = settler
        self._backoff = backoff
        self._worker_id = worker_id
        self._lease_for = lease_for
        self._look_ahead = look_ahead
        self._claimed = claimed
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._is_held_up = False
        self._contended_pause = CONTENDED_PAUSE

    async def run(self) -> None:
        """Claim jobs until `stop`; what a claim under way then brings is still taken in, to be given back."""
        while not self._stopping.is_set():
            now = self._clock.now()
            self._slots.tend(now)
            self._is_held_up = self._settler.backlog >= MAX_UNSETTLED
            hungry = {} if self._is_held_up else self._slots.appetites(now)
            if not hungry:
                await self._waker.wait(self._deadline(now))
            elif self._attempts.have_lapsed(now):
                await self._sleep(LAPSED_PAUSE_SECONDS)
            else:
                await self._claim(hungry, now)
        self._stopped.set()

    def stop(self) -> None:
        """Claim no more (E5)."""
        self._stopping.set()
        self._waker.stir()

    async def wait_until_stopped(self, timeout: timedelta) -> None:
        """Wait until the last claim is answered, at most *timeout*."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), timeout.total_seconds())

    def settled(self) -> None:
        """Take note that outcomes were answered: claiming may have waited for that."""
        if self._is_held_up and self._settler.backlog < MAX_UNSETTLED:
            self._waker.stir()

    def _deadline(self, now: datetime) -> datetime | None:
        """
        Return when to look again, if nothing happens before that.

        A lane that is due by *now* is not asked about for want of free slots, and the end of a handler tells of those.
        """
        known = [lane.wakes_at for lane in self._lanes if lane.wakes_at > now]
        if self._slots.deadline is not None:
            known.append(self._slots.deadline)
        return min(known, default=None)

    async def _claim(self, hungry: Mapping[Lane, int], now: datetime) -> None:
        claim = Claim(
            demands=tuple(Demand(lane.registration.queue_ids, limit) for lane, limit in hungry.items()),
            worker_id=self._worker_id,
            now=now,
            lease_for=self._lease_for,
            look_ahead=self._look_ahead,
        )
        self._waker.asking(hungry)
        try:
            claimed = await self._storage.claim_jobs(claim)
        except Exception as error:  # whatever a storage raises, the next claim may pass (E4)
            logger.warning("jobs could not be claimed, trying again: %s", error)
            self._waker.unanswered()
            await self._sleep(self._backoff.next_seconds())
            return
        self._backoff.reset()
        is_filled = self._accept(claimed, hungry, now + self._lease_for)
        is_contended = claimed.next_due is not None and claimed.next_due <= now and not is_filled
        again_at = self._clock.now() + self._contended_pause if is_contended else AT_ONCE
        if is_contended and not claimed.jobs:
            self._contended_pause = min(LONGEST_CONTENDED_PAUSE, self._contended_pause * 2)
        else:
            self._contended_pause = CONTENDED_PAUSE
        self._waker.answered(next_due=claimed.next_due, now=now, again_at=again_at)
        if claimed.jobs:
            await asyncio.sleep(0)  # handlers that never wait and a storage that never waits leave the loop no turn

    def _accept(self, claimed: Claimed, hungry: Mapping[Lane, int], ends_at: datetime) -> bool:
        """Take in what was claimed. Return whether some lane got as many jobs as it asked for."""
        for unreadable in claimed.unreadable:
            self._settler.fail_unreadable(unreadable)
        if claimed.jobs:
            self._claimed(claimed.jobs)
            self._slots.take_in(claimed.jobs, ends_at=ends_at)
        taken = Counter([job.queue_id for job in claimed.jobs])
        taken.update(job.queue_id for job in claimed.unreadable)
        return any(
            sum(taken[queue_id] for queue_id in lane.registration.queue_ids) >= limit for lane, limit in hungry.items()
        )

    async def _sleep(self, seconds: float) -> None:
        """Wait for *seconds*, or until the worker is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
