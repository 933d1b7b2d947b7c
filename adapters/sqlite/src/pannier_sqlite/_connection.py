"""Connections: how each is opened."""

import json
import os
import sqlite3
from contextlib import suppress
from typing import Final

from pannier.errors import StorageRefusedError
from pannier_sqlite.settings import Settings

OLDEST: Final = (3, 37, 0)
"""The first SQLite with STRICT tables."""


def connect(settings: Settings) -> sqlite3.Connection:
    """
    Open a connection in autocommit mode, with write-ahead logging.

    A new file can be read and written by its owner alone: payloads are nobody else's business.

    Raises:
        StorageRefusedError: This SQLite is too old.
        sqlite3.Error: The file can't be opened.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StorageRefusedError(
            f"SQLite {sqlite3.sqlite_version} is too old, 3.37 or newer is needed; use a Python that links a newer one"
        )
    with suppress(OSError):  # sqlite3 words what is wrong better
        os.close(os.open(settings.path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(
        settings.path,
        timeout=settings.timeout.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {settings.synchronous.value}")
        connection.execute("PRAGMA foreign_keys = OFF")
    except BaseException:
        connection.close()
        raise
    connection.create_function("has_metadata", 2, _has_metadata, deterministic=True)
    return connection


def _has_metadata(metadata: str | None, wanted: str) -> bool:
    """Whether a job's *metadata* has every entry *wanted*: exact for any text, which SQLite's own JSON is not."""
    return bool(json.loads(wanted).items() <= (json.loads(metadata) if metadata else {}).items())
