"""Connections: how each is opened, and how long it waits for others."""

import json
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from pannier.errors import StorageRefusedError
from pannier_sqlite._errors import is_contention
from pannier_sqlite.settings import Settings

T = TypeVar("T")

OLDEST: Final = (3, 37, 0)
"""The first SQLite with STRICT tables."""

FIRST_PAUSE: Final = 0.0002
LONGEST_PAUSE: Final = 0.002


def connect(settings: Settings) -> sqlite3.Connection:
    """
    Open a connection in autocommit mode, with write-ahead logging. Waits for others up to the timeout.

    Raises:
        StorageRefusedError: This SQLite is too old, or the file can't have a write-ahead log.
        sqlite3.Error: The file can't be opened.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StorageRefusedError(
            f"SQLite {sqlite3.sqlite_version} is too old, 3.37 or newer is needed; use a Python that links a newer one"
        )
    connection = sqlite3.connect(
        settings.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        until_free(lambda: _set_up(connection, settings), deadline=time.monotonic() + settings.timeout_seconds)
        connection.create_function("has_metadata", 2, _has_metadata, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def until_free(attempt: Callable[[], T], *, deadline: float) -> T:
    """
    Call *attempt* until nobody else holds the lock that it needs, or *deadline* (of `time.monotonic`) has passed.

    Differs from SQLite's busy handler, which sleeps up to 100 ms between two looks: short pauses with jitter share the
    lock out among processes.

    Raises:
        sqlite3.OperationalError: The last attempt's.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if not is_contention(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause * (0.5 + random.random()))
        pause = min(LONGEST_PAUSE, pause * 1.5)


def _set_up(connection: sqlite3.Connection, settings: Settings) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":  # changing it takes an exclusive lock
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StorageRefusedError(
            f"{settings.path} can't have a write-ahead log (it stays in mode {mode!r}); put it on a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {settings.synchronous.value}")
    # What an UPDATE of many rows would put back if it failed half-way: beyond 64 KiB of pages, as a claim of 200 does,
    # SQLite makes a file for it in /var/tmp and removes it, each time. In memory it costs a job 0.4 us less.
    connection.execute("PRAGMA temp_store = MEMORY")


def _has_metadata(metadata: str | None, wanted: str) -> bool:
    """Whether a job's *metadata* has every entry *wanted*: exact for any text, which SQLite's own JSON is not."""
    return bool(json.loads(wanted).items() <= (json.loads(metadata) if metadata else {}).items())
