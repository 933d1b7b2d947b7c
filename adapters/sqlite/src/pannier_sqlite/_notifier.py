"""The notifier: notices that others have committed, by watching the file, or by looking every 20 ms."""

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pannier.records import Notice, NoticeKind
from pannier_sqlite._thread import Work
from pannier_sqlite.settings import Settings, Watch

if TYPE_CHECKING:
    from asyncinotify import Inotify

T = TypeVar("T")

logger = logging.getLogger("pannier.sqlite")

POLL_SECONDS: Final = 0.02
TICK_SECONDS: Final = 1.0
"""How often to look where the file is watched, too: a watch may be lost, and notices come within a second (R124)."""

CONFIRM_SECONDS: Final = (0.0003, 0.0003, 0.0005, 0.001, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04)
"""The log is written before the commit can be seen: pauses between looks, as long as a disk may need."""

MISSED: Final = Notice(NoticeKind.MISSED, "*")
"""A commit can't be named: look for yourself, in every queue."""


class Run(Protocol):
    """Does work in the writing thread, outside of transactions."""

    async def __call__(self, work: Work[T]) -> T:
        """Do *work* on the connection whose commits are no news."""
        ...


def read_version(connection: sqlite3.Connection) -> int:
    """
    Return a number that moves with each commit of another connection, not with those of this one.

    https://www.sqlite.org/pragma.html#pragma_data_version
    """
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


@asynccontextmanager
async def listening(settings: Settings, run: Run) -> AsyncIterator[AsyncIterator[Notice]]:
    """
    Yield a notice for each time that somebody else was seen to have committed since the context was entered.

    Differs from postgres: SQLite pushes nothing; only the file can be watched.
    """
    with await _watch(settings, run) as inotify:
        seen = await run(read_version)
        async with aclosing(_watched(inotify, run, seen) if inotify else _polled(run, seen)) as notices:
            yield notices


async def _polled(run: Run, seen: int) -> AsyncGenerator[Notice, None]:
    while True:
        await asyncio.sleep(POLL_SECONDS)
        version = await run(read_version)
        if version != seen:
            seen = version
            yield MISSED


async def _watched(inotify: "Inotify", run: Run, seen: int) -> AsyncGenerator[Notice, None]:
    while True:
        await _stirring(inotify)
        pauses = iter(CONFIRM_SECONDS)
        while True:
            is_stirred = _drain(inotify)
            version = await run(read_version)
            if version != seen:
                seen = version
                yield MISSED
                if not is_stirred:
                    break
                pauses = iter(CONFIRM_SECONDS)  # what was written just now may be one more commit
            pause = next(pauses, None)
            if pause is None:  # written by ourselves, or rolled back
                break
            await asyncio.sleep(pause)


async def _stirring(inotify: "Inotify") -> None:
    """Wait until the log is written to, at most a tick."""
    try:
        async with asyncio.timeout(TICK_SECONDS):
            await inotify.get()
    except TimeoutError:
        pass


def _drain(inotify: "Inotify") -> bool:
    """Drop the events that have come by now. Return whether there were any."""
    is_stirred = False
    while inotify.sync_get() is not None:
        is_stirred = True
    return is_stirred


async def _watch(settings: Settings, run: Run) -> "Inotify | AbstractContextManager[None]":
    """Watch the write-ahead log, which every commit is written to; a context without a watch: poll."""
    if settings.watch is Watch.POLL or sys.platform != "linux":
        return nullcontext()
    log = f"{settings.path}-wal"
    try:
        return await run(lambda _: _open_watch(log))
    except OSError as error:
        logger.warning("%s can't be watched (%s), looking every 20 ms instead", log, error.strerror)
        return nullcontext()


def _open_watch(log: str) -> "Inotify":
    # In a thread: the library asks another program for the name of the C library, which takes 25 ms.
    from asyncinotify import Inotify, Mask  # noqa: PLC0415  # Linux only

    inotify = Inotify(sync_timeout=0)
    try:
        inotify.add_watch(log, Mask.MODIFY)
    except BaseException:
        inotify.close()
        raise
    return inotify
