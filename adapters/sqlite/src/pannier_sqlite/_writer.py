"""The writer: all calls that wait share one transaction, and so the one wait for the disk."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress

from pannier_sqlite._connection import until_free
from pannier_sqlite._thread import AnyCall, Kind, run_reads


def run_calls(connection: sqlite3.Connection, calls: Sequence[AnyCall]) -> None:
    """Run reads for themselves, then all writes in one transaction (R122). Errors stay with their calls."""
    run_reads(connection, [call for call in calls if call.kind is Kind.READ])
    _write(connection, [call for call in calls if call.kind is Kind.WRITE and call.prepare()])


def _write(connection: sqlite3.Connection, calls: Sequence[AnyCall]) -> None:
    """
    Run *calls* in the order started, and commit.

    If anything fails, all is rolled back and each call is tried again by itself, so that an error meets its own call
    alone, be it a value that can't be stored or a batch that fills the disk. Failures are rare; a savepoint around each
    call would make all the others pay for them.
    """
    calls = _begin(connection, calls)
    if not calls:
        return
    try:
        for call in calls:
            call.run(connection)
        connection.execute("COMMIT")
    except BaseException as error:  # handed to whoever awaits the call
        _roll_back(connection)
        if len(calls) == 1:
            calls[0].error = error
            return
        for call in calls:
            _write(connection, [call])
        return
    for call in calls:  # the lock is free again
        call.conclude()


def _begin(connection: sqlite3.Connection, calls: Sequence[AnyCall]) -> Sequence[AnyCall]:
    """Begin a transaction that holds the write lock. Return the calls whose time has not run out meanwhile."""
    while calls:
        try:
            until_free(lambda: connection.execute("BEGIN IMMEDIATE"), deadline=calls[0].deadline)
        except sqlite3.Error as error:
            now = time.monotonic()
            late = [call for call in calls if call.deadline <= now] or calls
            for call in late:
                call.error = error
            calls = [call for call in calls if call.error is None]
        else:
            break
    return calls


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # a full disk has rolled back already
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
