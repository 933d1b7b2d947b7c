"""Work in a caller's own transaction, on his connection and in his thread."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from pannier.errors import StorageBusyError, UsageError


class LentConnections:
    """
    Which task has lent its connection in the middle of a transaction.

    Such a task must not await a writing verb before it ends the transaction: the writer waits for the lock, and the
    task that holds it waits for the writer. It is told at once, instead of after the timeout.
    """

    def __init__(self) -> None:
        self._lent: WeakKeyDictionary[asyncio.Task[object], sqlite3.Connection] = WeakKeyDictionary()

    def note(self, connection: sqlite3.Connection) -> None:
        """Note that the current task, if there is one, has lent *connection*."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs in this thread: nothing of it is awaited here
            return
        if task is not None:
            self._lent[task] = connection

    def check(self) -> None:
        """
        Refuse a writing verb that would wait for its own task.

        Raises:
            StorageBusyError: The connection that the task has lent is still in its transaction.
        """
        if not self._lent:
            return
        task = asyncio.current_task()
        connection = None if task is None else self._lent.pop(task, None)
        if task is None or connection is None or not _is_in_transaction(connection):
            return
        self._lent[task] = connection
        raise StorageBusyError(
            "this task is in the transaction that it handed to store_jobs_in or settle_jobs_in, which holds the write "
            "lock; commit or roll back before awaiting another verb that writes"
        )


@contextmanager
def step_in(connection: object, path: Path) -> Iterator[sqlite3.Connection]:
    """
    Enter a step of the caller's open transaction: whole, or undone if something raises. Commits nothing.

    Raises:
        TypeError: *connection* is no sqlite3.Connection.
        UsageError: It has no open transaction, or is on another file: what is stored there would be lost.
    """
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(f"transaction must be a sqlite3.Connection, not {type(connection).__name__}")
    if not connection.in_transaction:
        raise UsageError("the connection has no open transaction; execute BEGIN IMMEDIATE first")
    decode, connection.text_factory = connection.text_factory, str
    try:
        _check_file(connection, path)
        connection.execute("SAVEPOINT pannier")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back already
                connection.execute("ROLLBACK TO pannier")
                connection.execute("RELEASE pannier")
            raise
        connection.execute("RELEASE pannier")
    finally:
        connection.text_factory = decode


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    cursor = connection.cursor()
    cursor.row_factory = None  # the caller may have set one
    files = {name: file for _, name, file in cursor.execute("PRAGMA database_list")}
    file = files.get("main")
    if not file or not path.samefile(file):
        raise UsageError(f"the connection is on {file or 'a database in memory'}, not on {path}")


def _is_in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:  # it was closed
        return False
