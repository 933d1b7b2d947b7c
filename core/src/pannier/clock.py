"""The clocks that the engine decides by."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

PROMPT_SECONDS: Final = 0.1
READINGS: Final = 3
"""A reading may be wrong by half its round trip: one that was slow is taken again, and the promptest counts."""

HELD: Final = timedelta(seconds=1)
"""What two readings may differ by and be taken for inexact; a clock that went back further was set, and is followed."""


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

    Read by `synchronise`; carried on between by a counter that goes on while the machine is suspended. It stands still
    rather than go back by what readings are inexact by. A storage's clock that was set back is followed: whoever comes
    later goes by it, and to him what a clock held still calls due would lie in the future. Where the storage has no
    clock, the wall clock is used as it is: all workers of such a storage share a host.
    """

    def __init__(
        self,
        read_clock: Callable[[], Awaitable[datetime | None]],
        *,
        seconds: Callable[[], float],
        fallback: Clock,
    ) -> None:
        self._read_clock = read_clock
        self._seconds = seconds
        self._fallback = fallback
        self._anchor: tuple[datetime, float] | None = None
        self._latest: datetime | None = None

    async def synchronise(self) -> None:
        """
        Read the storage's clock anew. Call on open, every minute, and after any gap.

        Raises:
            StorageError: It can't be read; the clock goes on as before.
        """
        best = await self._reading()
        for _ in range(READINGS - 1):
            if best is None or best.round_trip <= PROMPT_SECONDS:
                break
            again = await self._reading()
            best = min((reading for reading in (best, again) if reading), key=lambda reading: reading.round_trip)
        if best is None:
            return
        self._anchor = (best.instant, best.read_at)
        if self._latest is not None and self._latest - self._carried_on(self._anchor) > HELD:
            self._latest = None

    async def _reading(self) -> "_Reading | None":
        asked = self._seconds()
        instant = await self._read_clock()
        answered = self._seconds()
        if instant is None:
            return None
        return _Reading(instant, (asked + answered) / 2, answered - asked)  # it is half a round trip old

    def now(self) -> datetime:
        """Return the storage's instant, or the wall clock's where the storage has no clock."""
        if self._anchor is None:
            return self._fallback.now()
        now = self._carried_on(self._anchor)
        if self._latest is not None and now < self._latest:
            return self._latest
        self._latest = now
        return now

    def _carried_on(self, anchor: tuple[datetime, float]) -> datetime:
        instant, then = anchor
        return instant + timedelta(seconds=self._seconds() - then)


class _Reading(NamedTuple):
    instant: datetime
    read_at: float
    round_trip: float


_BOOT_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere suspension is not counted


def seconds_since_boot() -> float:
    """Count seconds, also those of suspension where the platform can: leases go on ending while a laptop sleeps."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)
