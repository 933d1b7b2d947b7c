"""Driver errors, translated in one place."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pannier.errors import (
    StorageBusyError,
    StorageConflictError,
    StorageError,
    StorageRefusedError,
    UnstorableError,
)

_CONTENDED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def translated(error: sqlite3.Error, path: Path) -> StorageError:
    """Return the error of pannier that says what *error* says, and what to do."""
    extended = getattr(error, "sqlite_errorcode", 0)
    if extended == sqlite3.SQLITE_BUSY_SNAPSHOT:  # only in a caller's transaction; ours begin with the write lock
        return StorageConflictError(
            f"the transaction on {path} has read what another one changed since; roll it back, and begin it again "
            f"with BEGIN IMMEDIATE"
        )
    match extended & 0xFF:
        case code if code in _CONTENDED:
            return StorageBusyError(
                f"another program held the lock of {path} for longer than the timeout; end its transaction, or raise "
                f"?timeout="
            )
        case sqlite3.SQLITE_FULL:
            return StorageRefusedError(f"the disk of {path} is full; make room, nothing was written")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StorageRefusedError(f"{path} or its folder can't be written; check the permissions")
        case sqlite3.SQLITE_CANTOPEN:
            return StorageRefusedError(f"{path} can't be opened; check that its folder exists and can be written")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StorageRefusedError(f"{path} is no SQLite database, or is damaged; restore it from a backup")
        case sqlite3.SQLITE_IOERR:
            return StorageRefusedError(f"the disk of {path} failed ({error}); nothing was written")
        case sqlite3.SQLITE_TOOBIG:
            return UnstorableError(None, "it is larger than what SQLite holds in one row")
        case _:
            return StorageRefusedError(f"{path}: {error}")


def is_contention(error: sqlite3.Error) -> bool:
    """Whether trying again soon may help: somebody else holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CONTENDED


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise pannier's errors in the place of the driver's and the operating system's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
    except OSError as error:
        raise StorageRefusedError(
            f"{path} can't be opened ({error.strerror}); check that its folder exists and can be written"
        ) from error
