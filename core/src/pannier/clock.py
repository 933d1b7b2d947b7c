"""The clocks that the engine decides by."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time by which jobs are due and leases end."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        """Return the wall clock's instant."""
        return datetime.now(UTC)


class StorageClock:
    """
    The storage's clock, so that workers whose own clocks disagree agree about leases and due times (E15).

    Read by `synchronise`; carried on between by a counter that goes on while the machine is suspended. Never goes
    backwards. Where the storage has no clock, the wall clock is used as it is: all workers of such a storage share a
    host.
    """

    def __init__(
        self,
        read_clock: Callable[[], Awaitable[datetime | None]],
        *,
        seconds: Callable[[], float] | None = None,
        fallback: Clock | None = None,
    ) -> None:
        self._read_clock = read_clock
        self._seconds = seconds or _seconds_since_boot
        self._fallback = fallback or SystemClock()
        self._anchor: tuple[datetime, float] | None = None
        self._latest: datetime | None = None

    async def synchronise(self) -> None:
        """
        Read the storage's clock anew. Call on open, every minute, and after any gap.

        Raises:
            StorageError: It can't be read; the clock goes on as before.
        """
        asked = self._seconds()
        instant = await self._read_clock()
        if instant is not None:
            answered = self._seconds()
            self._anchor = (instant, (asked + answered) / 2)  # the reading is half a round trip old

    def now(self) -> datetime:
        """Return the storage's instant, or the wall clock's where the storage has no clock."""
        if self._anchor is None:
            return self._fallback.now()
        instant, then = self._anchor
        now = instant + timedelta(seconds=self._seconds() - then)
        if self._latest is not None and now < self._latest:
            return self._latest
        self._latest = now
        return now


def _seconds_since_boot() -> float:
    """Count seconds, also those of suspension where the platform can: leases go on ending while a laptop sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
