"""Lanes: the slots of one queue in one worker, and the jobs that are claimed ahead of them."""

from collections import deque
from datetime import timedelta
from typing import Final

from pannier.handlers import QueueOptions, Registration
from pannier.records import JobRecord, Lease

AHEAD: Final = timedelta(milliseconds=100)
"""What is claimed ahead should run in about this time, so that a crash or a slow job delays little."""

_SMOOTHING: Final = 0.2


class Lane:
    """
    One queue with its aliases: how many of its jobs run, which wait here already leased, and how short they are.

    Attributes:
        registration: The command and its handler.
        options: The queue's options.
        running: How many handlers run now, at most `options.max_concurrency` (E1).
        ahead: Claimed jobs that wait for a slot, in the order they are to start.
        is_cautious: Whether the last claim found jobs whose worker had died: then nothing is claimed ahead (E14).
    """

    def __init__(self, registration: Registration, options: QueueOptions) -> None:
        self.registration = registration
        self.options = options
        self.running = 0
        self.ahead: deque[JobRecord] = deque()
        self.is_cautious = False
        self._seconds: float | None = None  # of one run, smoothed; None: not measured yet

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.options.max_concurrency - self.running

    def measure(self, seconds: float) -> None:
        """Take note of how long a run took."""
        known = self._seconds
        self._seconds = seconds if known is None else known + _SMOOTHING * (seconds - known)

    def appetite(self) -> int:
        """
        Return how many jobs to claim now; 0: enough are here.

        Free slots are always filled. Further jobs are claimed ahead only once half of those ahead are used up, so that
        claims come in batches.
        """
        unmet = self.free - len(self.ahead)
        ahead = self.ahead_limit()
        if unmet > 0 or (ahead and len(self.ahead) * 2 <= ahead):
            return max(0, unmet + ahead)
        return 0

    def ahead_limit(self) -> int:
        """Return how many jobs may wait here: what runs in about 100 ms, at most `prefetch`."""
        if self._seconds is None or self.is_cautious or not self.options.prefetch:
            return 0
        in_time = AHEAD.total_seconds() * self.options.max_concurrency / max(self._seconds, 1e-6)
        return min(self.options.prefetch, int(in_time))

    def discard(self, lease: Lease) -> JobRecord | None:
        """Forget the job of *lease* if it waits here, and return it."""
        for waiting in self.ahead:
            if waiting.tracking_id == lease.tracking_id and waiting.fence == lease.fence:
                self.ahead.remove(waiting)
                return waiting
        return None
