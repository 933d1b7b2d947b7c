"""Driver errors, translated in one place."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pannier.errors import (
    StorageBusyError,
    StorageClosedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
)

_CONTENDED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def translated(error: sqlite3.Error, path: Path) -> StorageError:
    """Return the error of pannier that says what *error* says, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageBusyError(
                f"{path} is locked by another program, or by a transaction of this one that has not ended; "
                f"end it, or raise ?timeout="
            )
        case sqlite3.SQLITE_FULL:
            return StorageRefusedError(f"the disk of {path} is full; free some space, nothing was written")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StorageRefusedError(f"{path} or its folder can't be written; check the permissions")
        case sqlite3.SQLITE_CANTOPEN:
            return StorageRefusedError(f"{path} can't be opened; check that its folder exists and can be written")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StorageRefusedError(f"{path} is no SQLite database, or is damaged; restore it from a backup")
        case sqlite3.SQLITE_IOERR:
            return StorageUnavailableError(f"the disk of {path} failed: {error}")
        case sqlite3.SQLITE_MISUSE:
            return StorageClosedError(f"{path} was closed meanwhile")
        case _:
            return StorageRefusedError(f"{path}: {error}")


def is_contention(error: sqlite3.Error) -> bool:
    """Whether trying again soon may help: somebody else holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CONTENDED


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise pannier's errors in the place of the driver's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
