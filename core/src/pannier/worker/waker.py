"""The waker: knows, for each lane, from when on asking the storage for jobs is worth while, and waits for that."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from pannier.clock import Clock
from pannier.worker.lanes import Lane

AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)
_ASKED: Final = datetime.max.replace(tzinfo=UTC)


class Waker:
    """
    Brings together what makes a lane worth asking about.

    That is: triggers, push, `Claimed.next_due`, what was settled here to be tried again, and the probe. The earliest of
    them stands in `Lane.due`.

    Each lane is known by itself: a lane without a free slot is not asked about, however much is due there, and one with
    free slots need not be asked again because of that.
    """

    def __init__(self, *, clock: Clock, lanes: Sequence[Lane], probe_every: timedelta) -> None:
        self._clock = clock
        self._lanes = tuple(lanes)
        self._by_queue = {queue_id: lane for lane in lanes for queue_id in lane.registration.queue_ids}
        self._probe_every = probe_every
        self._signal = asyncio.Event()
        self._being_asked: tuple[Lane, ...] = ()
        self.wake_all()

    def wake(self, queue_id: str) -> None:
        """Look for jobs of *queue_id* now: something was queued there, or may have been."""
        lane = self._by_queue.get(queue_id)
        if lane is not None:
            self.expect(lane, AT_ONCE)

    def wake_all(self) -> None:
        """Look for jobs of every lane now."""
        for lane in self._lanes:
            self.expect(lane, AT_ONCE)

    def expect(self, lane: Lane, at: datetime) -> None:
        """Take note that a job of *lane* falls due at *at*."""
        if at < lane.due:
            lane.due = at
            self._signal.set()

    def stir(self) -> None:
        """Let whoever waits look again."""
        self._signal.set()

    def freed(self, lane: Lane) -> None:
        """Take note that *lane* has a free slot. Waking costs 8 us, so that is only done where a claim could follow."""
        if not self._signal.is_set() and (lane.due is AT_ONCE or lane.due <= self._clock.now()):
            self._signal.set()

    def asking(self, lanes: Collection[Lane]) -> None:
        """Take note that the storage is being asked about *lanes*; what is told from now on comes on top."""
        self._being_asked = tuple(lanes)
        for lane in lanes:
            lane.due = _ASKED

    def unanswered(self) -> None:
        """Take note that the storage gave no answer."""
        for lane in self._being_asked:
            self.expect(lane, AT_ONCE)

    def answered(self, *, next_due: datetime | None, now: datetime, again_at: datetime) -> None:
        """
        Learn from the answer to the question asked at *now*.

        Args:
            next_due: What the storage says: a lower bound over all lanes asked about (R121).
            now: The instant of the claim.
            again_at: When to ask again where more is due already.
        """
        probe = now + self._probe_every
        bound = probe if next_due is None else min(next_due, probe)
        for lane in self._being_asked:
            self.expect(lane, bound if bound > now else again_at)

    async def wait(self, until: datetime | None) -> None:
        """
        Wait until something changes, at most *until*.

        What was told before is forgotten: call this right after having looked at it.
        """
        self._signal.clear()
        if until is None:
            await self._signal.wait()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._signal.wait(), max(0.0, (until - self._clock.now()).total_seconds()))
