"""The notifier: notices that another connection has committed, by watching the file, or by looking every 20 ms."""

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.records import Notice, NoticeKind
from pannier_sqlite.settings import Settings, Watch

if TYPE_CHECKING:
    from asyncinotify import Inotify

logger = logging.getLogger("pannier.sqlite")

POLL_SECONDS: Final = 0.02
CONFIRM_SECONDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""The file is written before the commit can be seen: how long to look for it, longer each time."""


class Changes:
    """
    Tells when the database has changed.

    `PRAGMA data_version` moves with each commit of another connection; a look costs 5 us.
    https://www.sqlite.org/pragma.html#pragma_data_version
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = self._read()

    def have_come(self) -> bool:
        """Whether somebody has committed since the last look."""
        version = self._read()
        is_new, self._version = version != self._version, version
        return is_new

    def _read(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version


@asynccontextmanager
async def listening(
    settings: Settings, connect: Callable[[], sqlite3.Connection], queue_ids: frozenset[str]
) -> AsyncIterator[AsyncIterator[Notice]]:
    """
    Yield notices about *queue_ids*. Which job changed can't be told, so all are MISSED: look for yourself.

    Differs from postgres: SQLite pushes nothing; only the file can be watched.
    """
    connection = await asyncio.to_thread(connect)
    try:
        changes = Changes(connection)
        inotify = _watch(settings)
        try:
            queue_id = min(queue_ids, default="*")
            yield _notices(changes, inotify, queue_id)
        finally:
            if inotify is not None:
                inotify.close()
    finally:
        connection.close()


async def _notices(changes: Changes, inotify: "Inotify | None", queue_id: str) -> AsyncIterator[Notice]:
    notice = Notice(NoticeKind.MISSED, queue_id)
    while True:
        if inotify is None:
            await asyncio.sleep(POLL_SECONDS)
            if changes.have_come():
                yield notice
            continue
        await inotify.get()
        for pause in CONFIRM_SECONDS:
            if changes.have_come():
                yield notice
                break
            await asyncio.sleep(pause)


def _watch(settings: Settings) -> "Inotify | None":
    """Watch the write-ahead log, which every commit is written to; None: poll."""
    if settings.watch is Watch.POLL or sys.platform != "linux":
        return None
    from asyncinotify import Inotify, Mask  # noqa: PLC0415  # Linux only

    log = Path(f"{settings.path}-wal")
    inotify = Inotify()
    with suppress(OSError):
        inotify.add_watch(log, Mask.MODIFY)
        return inotify
    inotify.close()
    logger.warning("%s can't be watched, looking every 20 ms instead", log)
    return None
