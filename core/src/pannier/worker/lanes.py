"""Lanes: the slots of one queue in one worker, and the attempts that were claimed ahead of them."""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pannier.options import QueueOptions
from pannier.registry import Registration

if TYPE_CHECKING:
    from pannier.worker.attempts import Attempt

AHEAD: Final = timedelta(milliseconds=100)
"""What is claimed ahead should run in about this time, so that a crash or a slow job delays little."""

_AHEAD_SECONDS: Final = AHEAD.total_seconds()

_SAMPLE: Final = 16
"""How many runs are timed together once a first one was: the sum costs nothing, the arithmetic 0.5 us."""

_SMOOTHING: Final = 0.5


class Lane:
    """
    One queue with its aliases: how many of its jobs run, which wait here already leased, and how short they are.

    Attributes:
        registration: The command and its handler.
        options: The queue's options.
        running: How many handlers run now, at most `options.max_concurrency` (E1).
        ahead: Claimed jobs that wait for a slot, in the order they are to start.
        started: How many were started in all.
        due: From when on the storage is worth asking; kept by the waker.
        rests_until: Nothing is claimed before this instant; kept by solitude.
    """

    def __init__(self, registration: Registration, options: QueueOptions) -> None:
        self.registration = registration
        self.options = options
        self.running = 0
        self.ahead: deque[Attempt] = deque()
        self.started = 0
        self.due = datetime.max.replace(tzinfo=UTC)
        self.rests_until = datetime.min.replace(tzinfo=UTC)
        self._is_cautious = False
        self._pace: float | None = None  # seconds of one run, smoothed; None: not measured yet
        self._timed = 0
        self._seconds = 0.0
        self._ahead_limit = 0

    @property
    def wakes_at(self) -> datetime:
        """From when on it is asked about."""
        return max(self.due, self.rests_until)

    @property
    def ahead_limit(self) -> int:
        """How many jobs may wait here: what runs in about 100 ms, at most `prefetch`."""
        return 0 if self._is_cautious else self._ahead_limit

    def measure(self, seconds: float) -> None:
        """Take note of how long a run took."""
        self._timed += 1
        self._seconds += seconds
        if self._pace is not None and self._timed < _SAMPLE and seconds < _AHEAD_SECONDS:
            return
        mean = self._seconds / self._timed
        self._pace = mean if self._pace is None else self._pace + _SMOOTHING * (mean - self._pace)
        self._timed, self._seconds = 0, 0.0
        in_time = _AHEAD_SECONDS * self.options.max_concurrency / max(self._pace, 1e-6)
        self._ahead_limit = min(self.options.prefetch, int(in_time))

    def stall(self) -> None:
        """Claim nothing ahead until the next run is measured: what runs now is not as short as what ran before."""
        self._ahead_limit = 0

    def be_cautious(self, *, has_lapsed: bool) -> None:
        """Claim nothing ahead while claims find jobs whose worker had died: those start at once or not at all (E14)."""
        self._is_cautious = has_lapsed

    def appetite(self) -> int:
        """
        Return how many jobs to claim now; 0: enough are here.

        Free slots are always filled. Further jobs are claimed ahead only once half of those ahead are used up, so that
        claims come in batches.
        """
        waiting = len(self.ahead)
        unmet = self.options.max_concurrency - self.running - waiting
        limit = self.ahead_limit
        if unmet > 0 or (limit and waiting * 2 <= limit):
            return max(0, unmet + limit)
        return 0
