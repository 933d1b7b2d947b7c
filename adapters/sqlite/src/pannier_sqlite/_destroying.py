"""Destroying: what open() made goes, and nothing else."""

import sqlite3
import time
from pathlib import Path
from typing import Final

from pannier_sqlite._connection import connect, until_free
from pannier_sqlite._errors import translating
from pannier_sqlite.settings import Settings

_REMOVALS: Final = (
    "DROP VIEW IF EXISTS pannier_readable_jobs",
    "DROP TABLE IF EXISTS pannier_jobs",
    "DROP TABLE IF EXISTS pannier_schema",
)


def destroy(settings: Settings) -> None:
    """
    Remove the tables, and the file with its log where nothing else is in it.

    An application may keep its own tables in the same file, so as to store jobs in its own transactions.

    Raises:
        StorageError: The file can't be read, is locked, or is no database.
    """
    if not settings.path.exists():
        return
    with translating(settings.path):
        is_empty = _remove_tables(settings)
    if is_empty:
        for suffix in ("-shm", "-wal", ""):
            Path(f"{settings.path}{suffix}").unlink(missing_ok=True)


def _remove_tables(settings: Settings) -> bool:
    connection = connect(settings)
    try:
        deadline = time.monotonic() + settings.timeout_seconds
        until_free(lambda: connection.execute("BEGIN IMMEDIATE"), deadline=deadline)
        for removal in _REMOVALS:
            connection.execute(removal)
        (left,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.close()
    return bool(left == 0)
