"""A clock that goes on only when a test says so."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from pannier.environment import Environment

START: Final = datetime(2030, 1, 1, 12, tzinfo=UTC)


class ManualClock:
    """
    A clock that stands still until a test moves it forward.

    Give its `environment` to `JobQueues` on the memory storage, and jobs fall due, are tried again and expire by it. A
    storage on a server has a clock of its own, which goes first. Limits on how long a handler runs are real time.
    """

    def __init__(self, now: datetime = START) -> None:
        """
        Start at *now*.

        Raises:
            ValueError: It is naive.
        """
        if now.tzinfo is None:
            raise ValueError(f"a clock starts at an aware instant; {now.isoformat()} has no time zone")
        self._start = self._now = now.astimezone(UTC)

    def now(self) -> datetime:
        """Return the instant that it shows, in UTC."""
        return self._now

    def seconds(self) -> float:
        """Return how many seconds it has gone on since it was made."""
        return (self._now - self._start).total_seconds()

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """
        Move it forward: `clock.advance(hours=4)`.

        Raises:
            ValueError: That would be backwards.
        """
        self.advance_to(self._now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))

    def advance_to(self, at: datetime) -> None:
        """
        Move it forward to the instant *at*: `clock.advance_to(job.dequeue_after)`.

        Raises:
            ValueError: That would be backwards.
        """
        if at < self._now:
            raise ValueError(f"a clock does not go back, from {self._now.isoformat()} to {at.isoformat()}")
        self._now = at.astimezone(UTC)

    @property
    def environment(self) -> Environment:
        """What `JobQueues(environment=...)` takes, with this clock, and chance that is the same in every run."""
        return Environment(wall=self, seconds=self.seconds, random=Random(0))
