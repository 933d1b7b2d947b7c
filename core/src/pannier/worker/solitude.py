"""Solitude: the last chance of a job that has twice outlived its worker is a run with nothing beside it (E14)."""

from datetime import datetime
from typing import Final

from pannier.records import JobRecord, Lease

LAST_CHANCE: Final = 2
"""A job with so many lapses runs alone; with more it is settled Failed without running."""


class Solitude:
    """
    At most one job that wants to be alone, while it waits for that and while it runs.

    It waits for a lease's time at most, or a worker with hour-long handlers would claim nothing for hours; then its
    queue rests for as long, so that the same job is not taken and given back again and again.
    """

    def __init__(self) -> None:
        self._waiting: JobRecord | None = None
        self._running: Lease | None = None
        self._queue_id = ""
        self._until: datetime | None = None
        self._resting: dict[str, datetime] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether nothing may be claimed or started now."""
        return self._waiting is not None or self._running is not None

    @property
    def deadline(self) -> datetime | None:
        """When the waiting job is given up; None: none waits."""
        return self._until if self._waiting is not None else None

    def want(self, job: JobRecord, queue_id: str, *, until: datetime) -> None:
        """Let *job* of the queue *queue_id* wait until nothing else runs, at most *until*."""
        self._waiting, self._queue_id, self._until = job, queue_id, until

    def take(self) -> JobRecord | None:
        """Return the job that waits, now that nothing runs; it runs alone until `ended`."""
        job, self._waiting = self._waiting, None
        if job is not None:
            self._running = job.lease
        return job

    def ended(self, lease: Lease) -> None:
        """Take note that a run has ended."""
        if self._running == lease:
            self._running = None

    def is_over(self, now: datetime) -> bool:
        """Whether the waiting job has waited too long."""
        return self._waiting is not None and self._until is not None and self._until <= now

    def give_up(self, *, rest_until: datetime) -> JobRecord | None:
        """Return the waiting job to be released, and let its queue rest."""
        job, self._waiting = self._waiting, None
        if job is not None:
            self._resting[self._queue_id] = rest_until
        return job

    def discard(self, lease: Lease) -> None:
        """Forget the waiting job if *lease*, which was lost, is its lease."""
        if self._waiting is not None and self._waiting.lease == lease:
            self._waiting = None

    def is_resting(self, queue_id: str, now: datetime) -> bool:
        """Whether nothing is claimed from *queue_id* for a while."""
        until = self._resting.get(queue_id)
        if until is None:
            return False
        if until <= now:
            del self._resting[queue_id]
            return False
        return True
