"""How long to wait before a faulty storage is asked again."""

import asyncio
from datetime import timedelta
from random import Random
from typing import Final

FIRST: Final = timedelta(milliseconds=100)


class Backoff:
    """Pauses that double from 0.1 s to a limit, with jitter, so that many workers don't return in step."""

    def __init__(self, limit: timedelta, random: Random) -> None:
        self._limit = limit
        self._random = random
        self._next = min(FIRST, limit)

    def next_seconds(self) -> float:
        """Return how long to wait now; longer each time until `reset`."""
        seconds = self._next.total_seconds() * (0.5 + self._random.random() / 2)
        self._next = min(self._limit, self._next * 2)
        return seconds

    async def pause(self) -> None:
        """Wait for `next_seconds`."""
        await asyncio.sleep(self.next_seconds())

    def reset(self) -> None:
        """Start with short pauses again: the storage has answered."""
        self._next = min(FIRST, self._limit)
