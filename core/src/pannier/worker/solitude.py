"""Solitude: a job that has twice outlived its worker has its last chance with nothing beside it (E14)."""

from collections import deque
from datetime import datetime, timedelta
from typing import Final

from pannier.worker.attempts import Attempt
from pannier.worker.lanes import Lane

LAST_CHANCE: Final = 2
"""A job with so many lapses runs alone; with more it is settled Failed without running."""

FIRST_WAIT: Final = timedelta(seconds=1)
"""So long nothing is claimed at first, that what runs may end. Each time in vain doubles it, up to a lease's time."""

TURN: Final = timedelta(milliseconds=250)
"""
So long last chances are begun one after the other; then everything else has its turn, the newly lapsed first.

A storage gives out what has newly lapsed before what was given back, so a turn that meets such a job ends with it: the
others that died with the same worker are started side by side, and last chances when they are through.
"""


class Solitude:
    """
    When last chances have their turn, and the one that runs.

    A last chance that was claimed with company is given back at once: whoever is leased here when this worker dies is
    charged with it. Nothing more is claimed then until the worker holds nothing, and in the turn that follows jobs are
    claimed one by one. Where handlers take too long for that, their worker goes on without the lane for a while.

    Attributes:
        is_turn: Whether jobs are claimed one by one.
    """

    def __init__(self, *, lease_for: timedelta) -> None:
        self._longest = lease_for
        self._wait = min(FIRST_WAIT, lease_for)
        self._lanes: deque[Lane] = deque()
        self._resting: tuple[Lane, ...] = ()
        self._running: Attempt | None = None
        self._until: datetime | None = None
        self.is_turn = False

    @property
    def is_wanted(self) -> bool:
        """Whether nothing may be claimed now, but what `next_lane` says."""
        return self._running is not None or bool(self._lanes)

    @property
    def deadline(self) -> datetime | None:
        """When `tend` has something to do; None: nothing is waited for."""
        return self._until if self._running is None else None

    def want(self, lane: Lane, *, now: datetime) -> None:
        """Let last chances of *lane* have a turn, or go on with it: there may be more."""
        if lane not in self._lanes:
            self._lanes.append(lane)
        if self._until is None:
            self._until = now + self._wait

    def next_lane(self, *, now: datetime) -> Lane | None:
        """Return the lane to claim one job of, by a worker that holds nothing; it has to be wanted anew after that."""
        if not self.is_turn:
            self.is_turn, self._until = True, now + TURN
            self._wait = min(FIRST_WAIT, self._longest)
        return self._lanes.popleft() if self._lanes else None

    def begin(self, attempt: Attempt) -> None:
        """Take note that *attempt* starts, alone."""
        self._running = attempt

    def ended(self, attempt: Attempt) -> None:
        """Take note that *attempt* has ended."""
        if self._running is attempt:
            self._running = None

    def tend(self, now: datetime) -> None:
        """End a turn that has lasted long enough or finds nothing more, and a wait that is in vain."""
        self._wake_those_who_overslept(now)
        if self._until is None or self._running is not None:
            return
        if self._lanes and timedelta(0) < self._until - now <= self._longest:  # more: the clock was set back
            return
        if not self.is_turn:
            self._resting = tuple(self._lanes)
            for lane in self._resting:
                lane.rests_until = now + self._wait
            self._wait = min(2 * self._wait, self._longest)
        self.stop()

    def stop(self) -> None:
        """Want nothing more; what runs alone goes on."""
        self._lanes.clear()
        self.is_turn, self._until = False, None

    def _wake_those_who_overslept(self, now: datetime) -> None:
        """No rest is longer than a lease, so the clock was set back where one seems to be."""
        for lane in self._resting:
            if lane.rests_until - now > self._longest:
                lane.rests_until = now
