"""Listening: how soon a commit is noticed that others make."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from pannier_sqlite._notifier import TICK_SECONDS, _look, _notices, _Sight

T = TypeVar("T")

SLOWEST_SECONDS = 2 * TICK_SECONDS


class _EndOfStoryError(Exception):
    """More is not told."""


class _SlowDisk:
    """A log that is written to once, by a commit that nobody ever gets to see; time passes only here."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.looks: list[float] = []
        self._has_stirred = False

    async def stirs(self, seconds: float) -> bool:
        if not self._has_stirred:
            self._has_stirred = True
            return True
        self.passed += seconds
        if self.passed > SLOWEST_SECONDS:
            raise _EndOfStoryError
        return False

    def settle(self) -> None:
        """Nothing else is written."""

    def close(self) -> None:
        """Nothing is open."""

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert work is cast("Callable[[sqlite3.Connection], T]", _look)
        self.looks.append(self.passed)
        return cast("T", _Sight(version=1, written=0))


def test_a_commit_is_noticed_before_it_has_waited_for_its_disk_twice_as_long() -> None:
    """The log stirs before the commit can be seen, on a slow or busy disk by a second (R124)."""
    disk = _SlowDisk()

    async def listen() -> None:
        async for _ in _notices(disk, disk.look, _Sight(version=1, written=0)):
            raise AssertionError("nothing was committed")

    with suppress(_EndOfStoryError):
        asyncio.run(listen())

    late = [
        (earlier, later)
        for earlier, later in zip(disk.looks, disk.looks[1:], strict=False)
        if 0.01 <= earlier < TICK_SECONDS / 2 and later > 2.5 * earlier
    ]
    assert late == []


class _OwnCommitMeanwhile:
    """A log that we and somebody else write to at once; his commit can be seen a moment after ours."""

    def __init__(self) -> None:
        self.passed = 0.0

    async def stirs(self, seconds: float) -> bool:
        self.passed += seconds
        return False

    def settle(self) -> None:
        """Both have written by now."""

    def close(self) -> None:
        """Nothing is open."""

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert work is cast("Callable[[sqlite3.Connection], T]", _look)
        return cast("T", _Sight(version=1 if self.passed < TICK_SECONDS + 0.005 else 2, written=1))


def test_a_commit_that_is_under_way_with_ours_does_not_wait_for_the_next_tick() -> None:
    """What has been written by then is forgotten after a commit of our own; it may not be seen yet (R124)."""
    log = _OwnCommitMeanwhile()

    async def listen() -> float:
        async for _ in _notices(log, log.look, _Sight(version=1, written=0)):
            return log.passed
        raise AssertionError("the notices ended")

    assert asyncio.run(listen()) < TICK_SECONDS + TICK_SECONDS / 2
