"""Migrations: files in migrations/, each applied once, under the write lock."""

import sqlite3
from importlib.resources import files
from typing import Final

from pannier.errors import SchemaTooNewError

KNOWN: Final = 2
"""The newest schema that this adapter knows."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS pannier_schema (
    version INTEGER PRIMARY KEY,
    readable_from INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (datetime('now'))
) STRICT
"""

READABLE_FROM: Final = 1
"""The oldest schema whose adapter may work with ours. Adding columns leaves it; changing their meaning raises it."""


def migrate(connection: sqlite3.Connection) -> None:
    """
    Bring the schema up to `KNOWN`. Call inside a transaction that holds the write lock.

    Raises:
        SchemaTooNewError: A newer adapter made this store, and says that ours can't work with it.
    """
    connection.execute(_TABLE)
    version, readable_from = connection.execute(
        "SELECT coalesce(max(version), 0), coalesce(max(readable_from), 0) FROM pannier_schema"
    ).fetchone()
    if version > KNOWN and readable_from > KNOWN:
        raise SchemaTooNewError(version, KNOWN)
    for path in sorted(files("pannier_sqlite").joinpath("migrations").iterdir(), key=lambda path: path.name):
        number = int(path.name.partition("_")[0]) if path.name.endswith(".sql") else 0
        if number > version:
            for statement in _statements(path.read_text("utf-8")):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO pannier_schema (version, readable_from) VALUES (?, ?)", (number, READABLE_FROM)
            )


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether there is nothing to migrate, so that opening needs no write lock."""
    try:
        row = connection.execute("SELECT max(version) FROM pannier_schema").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(row[0] == KNOWN)


def _statements(text: str) -> list[str]:
    """Split *text* into statements: executescript would commit the open transaction."""
    found, pending = [], ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
