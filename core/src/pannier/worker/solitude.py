"""Solitude: the last chance of a job that has twice outlived its worker is a run with nothing beside it (E14)."""

from datetime import datetime
from typing import Final

from pannier.worker.attempts import Attempt

LAST_CHANCE: Final = 2
"""A job with so many lapses runs alone; with more it is settled Failed without running."""


class Solitude:
    """
    At most one attempt that wants to be alone, while it waits for that and while it runs.

    It waits for a lease's time at most, or a worker with hour-long handlers would claim nothing for hours; then its
    lane rests for as long, so that the same job is not taken and given back again and again.
    """

    def __init__(self) -> None:
        self._waiting: Attempt | None = None
        self._running: Attempt | None = None
        self._until: datetime | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether nothing may be claimed or started now."""
        return self._waiting is not None or self._running is not None

    @property
    def deadline(self) -> datetime | None:
        """When the waiting attempt is given up; None: none waits."""
        return self._until if self._waiting is not None else None

    def want(self, attempt: Attempt, *, until: datetime) -> None:
        """Let *attempt* wait until nothing else runs, at most *until*."""
        self._waiting, self._until = attempt, until

    def take(self) -> Attempt | None:
        """Return the attempt that waits, now that nothing runs; it runs alone until `ended`."""
        self._running, self._waiting = self._waiting, None
        return self._running

    def ended(self, attempt: Attempt) -> None:
        """Take note that *attempt* has ended."""
        if self._running is attempt:
            self._running = None

    def give_up(self, *, rest_until: datetime) -> Attempt | None:
        """Return the waiting attempt to be released, and let its lane rest."""
        attempt, self._waiting = self._waiting, None
        if attempt is not None:
            attempt.lane.rests_until = rest_until
        return attempt

    def discard(self, attempt: Attempt) -> None:
        """Forget *attempt* if it waits: its lease was lost."""
        if self._waiting is attempt:
            self._waiting = None
