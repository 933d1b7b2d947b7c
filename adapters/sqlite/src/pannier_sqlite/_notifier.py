"""The notifier: notices that others have committed: the write-ahead log stirs, and data_version moves."""

import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, final

from attrs import define, field, frozen

from pannier.notices import Notice, NoticeKind
from pannier_sqlite._thread import Work
from pannier_sqlite.settings import Settings, Watch

if TYPE_CHECKING:
    from asyncinotify import Inotify

T = TypeVar("T")

logger = logging.getLogger("pannier.sqlite")

POLL_SECONDS: Final = 0.02
TICK_SECONDS: Final = 1.0
"""How often to look where nothing stirs, too: a watch may be lost, and notices come within a second (R124)."""

CONFIRM_SECONDS: Final = (0.0003, 0.0003, 0.0005, 0.001, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""
The log is written before the commit can be seen: pauses between looks, as long as a disk may need.

A busy one needs more than 0.1 s now and then; whoever had stopped looking by then waited for the next tick.
"""

OWN_SECONDS: Final = 0.02
"""How long not to look after a commit of our own, so that a busy worker does not follow its own steps."""

AFTER_OWN_SECONDS: Final = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256)
"""
Pauses between looks after that: somebody else may have written meanwhile, and be about to commit.

A worker that goes on committing sees its own commit again at the first of them, and so looks no more often.
"""

MISSED: Final = Notice(NoticeKind.MISSED, "*")
"""A commit can't be named: look for yourself, in every queue."""


class Run(Protocol):
    """Does work in the writing thread, outside of transactions."""

    async def __call__(self, work: Work[T]) -> T:
        """Do *work* on the connection whose commits are no news."""
        ...


class Log(Protocol):
    """Tells when the write-ahead log is written to."""

    async def stirs(self, seconds: float) -> bool:
        """Wait until it is, *seconds* at most. Return whether it was."""
        ...

    def settle(self) -> None:
        """Forget what has been written by now."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...


@frozen
class _Sight:
    """
    What the writing connection sees.

    Attributes:
        version: Moves with each commit of another connection. https://www.sqlite.org/pragma.html#pragma_data_version
        written: How many rows this connection has changed.
    """

    version: int
    written: int


def _look(connection: sqlite3.Connection) -> _Sight:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return _Sight(version, connection.total_changes)


@asynccontextmanager
async def listening(settings: Settings, run: Run) -> AsyncIterator[AsyncIterator[Notice]]:
    """
    Yield a notice for each time that somebody else was seen to have committed since the context was entered.

    Differs from postgres: SQLite pushes nothing; only the file can be watched.
    """
    log = await _open_log(settings, run)
    try:
        async with aclosing(_notices(log, run, await run(_look))) as notices:
            yield notices
    finally:
        log.close()


async def _notices(log: Log, run: Run, seen: _Sight) -> AsyncGenerator[Notice, None]:
    pauses: Iterator[float] = iter(())
    while True:
        if await log.stirs(next(pauses, TICK_SECONDS)):
            pauses = iter(CONFIRM_SECONDS)
        before, seen = seen, await run(_look)
        if seen.version != before.version:
            yield MISSED
        elif seen.written != before.written:  # it was ourselves
            await asyncio.sleep(OWN_SECONDS)
            log.settle()
            pauses = iter(AFTER_OWN_SECONDS)


async def _open_log(settings: Settings, run: Run) -> Log:
    path = f"{settings.path}-wal"
    if settings.watch is Watch.AUTO and sys.platform == "linux":
        try:
            return await run(lambda _: _watched(path))
        except OSError as error:
            logger.warning("%s can't be watched (%s), looking every 20 ms instead", path, error.strerror)
    return _PolledLog(path)


def _watched(path: str) -> "_WatchedLog":
    # In a thread: the library asks another program for the name of the C library, which takes 25 ms.
    from asyncinotify import Inotify, Mask  # noqa: PLC0415  # Linux only

    inotify = Inotify(sync_timeout=0)
    try:
        inotify.add_watch(path, Mask.MODIFY)
    except BaseException:
        inotify.close()
        raise
    return _WatchedLog(inotify)


@final
@frozen
class _WatchedLog:
    """A log that the system watches: costs nothing while nothing happens."""

    inotify: "Inotify"

    async def stirs(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.inotify.get()
        except TimeoutError:
            return False
        self.settle()
        return True

    def settle(self) -> None:
        while self.inotify.sync_get() is not None:
            pass

    def close(self) -> None:
        self.inotify.close()


@final
@define
class _PolledLog:
    """A log whose time and size are looked at every 20 ms: a tenth of the cost of asking SQLite."""

    path: str
    seen: tuple[int, int] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.settle()

    async def stirs(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            await asyncio.sleep(min(POLL_SECONDS, seconds))
            before = self.seen
            self.settle()
            if before != self.seen or self.seen is None:  # None: it can't be told, so look
                return True
            if loop.time() >= deadline:
                return False

    def settle(self) -> None:
        self.seen = _signature(self.path)

    def close(self) -> None:
        """Nothing is open."""


def _signature(path: str) -> tuple[int, int] | None:
    """Return what changes when *path* is written to; None where that can't be told."""
    if os.name != "posix":  # Windows tells the time of an open file late
        return None
    try:
        status = os.stat(path)  # noqa: PTH116  # a Path takes twice as long, fifty times a second
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
