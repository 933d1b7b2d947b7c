"""Migrations: files in migrations/, each applied once, under the write lock."""

import sqlite3
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from attrs import frozen

from pannier.errors import SchemaTooNewError


@frozen
class Migration:
    """
    One step of the schema.

    Attributes:
        version: The schema's version after it.
        usable_from: The oldest version whose adapter can go on working with it. New columns, tables and views leave it
            as it is: statements name their columns, and what they don't name is kept (R116).
        script: Its statements.
    """

    version: int
    usable_from: int
    script: str


def _read(name: str) -> str:
    return files("pannier_sqlite").joinpath("migrations", name).read_text("utf-8")


MIGRATIONS: Final = (
    Migration(version=1, usable_from=1, script=_read("0001_jobs.sql")),
    Migration(version=2, usable_from=1, script=_read("0002_readable_jobs.sql")),
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """
    Bring the schema up to the last of *migrations*. Safe where many processes do so at once; needs no lock if it is.

    Raises:
        SchemaTooNewError: A newer adapter made this store, and says that ours can't work with it. Nothing was changed.
        sqlite3.OperationalError: Somebody else holds the write lock. Nothing was changed.
    """
    known = migrations[-1].version
    if _version(connection, known) >= known:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection, known)  # another process may have been faster
        for migration in migrations:
            if migration.version > version:
                _apply(connection, migration)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, known: int) -> int:
    """Return the schema's version, 0 in a new file. Raises SchemaTooNewError."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'pannier_schema'").fetchone():
        return 0
    version: int
    version, usable_from = connection.execute(
        "SELECT version, usable_from FROM pannier_schema ORDER BY version DESC LIMIT 1"
    ).fetchone()
    if usable_from > known:
        raise SchemaTooNewError(version, known)
    return version


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    for statement in _statements(migration.script):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO pannier_schema (version, usable_from) VALUES (?, ?)", (migration.version, migration.usable_from)
    )


def _statements(script: str) -> Iterator[str]:
    """Split *script* into statements: executescript would commit the open transaction."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
