"""Tracking ids: UUIDs of version 7 (RFC 9562), which sort by the time of their making."""

from random import Random
from threading import Lock
from typing import Final
from uuid import UUID

from pannier.clock import Clock
from pannier.instants import to_microseconds
from pannier.restoring import restore_id

_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62


class TrackingIds:
    """
    Makes tracking ids, each greater than the one before.

    Jobs of one queue that are due at the same instant start in the order of their ids, so that a batch stays in order
    (R25); and new rows lie next to each other in an index. 62 bits are random: an id can't be guessed where *random* is
    the system's.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._latest = 0
        self._lock = Lock()

    def new(self) -> UUID:
        """Return the next id. Safe to call from any thread."""
        # 60 bits of time in units of 2**-12 ms (RFC 9562, 6.2, method 3); a busy unit borrows from the next one.
        ticks = (to_microseconds(self._clock.now()) << 12) // 1_000
        with self._lock:
            self._latest = ticks = max(ticks, self._latest + 1)
        return restore_id(
            ((ticks >> 12) << 80) | _VERSION_7 | ((ticks & 0xFFF) << 64) | _VARIANT | self._random.getrandbits(62)
        )
