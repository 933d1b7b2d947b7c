"""Storages that break a rule of section S."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from pannier.errors import StorageConflictError
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay


def file_of(url: StorageUrl) -> Path:
    """Return the SQLite file that *url* names."""
    return Path(url.text.partition("://")[2])


def remove(path: Path) -> None:
    """Remove a SQLite file and what stands beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@on_reference("R114")
class OpensTwiceAtMost(ReferenceProvider):
    """Makes its tables anew when one instance is opened for the third time, and fails: they are there."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._openings = 0

    async def open(self) -> None:
        """Open, twice at most."""
        self._openings += 1
        if self._openings == 3:
            raise StorageConflictError("the table jobs exists already")
        await super().open()


@on_sqlite("R114")
class MakesWhatItMissesATimeLater(TransactionalRelay):
    """Looks whether there is a file, makes its mind up, and makes a new one, whoever has made one meanwhile."""

    async def open(self) -> None:
        """Look, wait, make."""
        path = file_of(self.url)
        if not path.exists():
            time.sleep(0.05)  # noqa: ASYNC251  # what takes it so long
            remove(path)
        await super().open()


@on_sqlite("R114")
class CreatesWithoutALock(TransactionalRelay):
    """Makes a table of its own where it saw none, outside of any lock: the second of two fails."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._note = Path(f"{file_of(url)}.made")

    async def open(self) -> None:
        """Look, wait, make."""
        is_made = self._note.exists()
        await super().open()
        if not is_made:
            time.sleep(0.05)  # noqa: ASYNC251  # what takes it so long
            try:
                self._note.touch(exist_ok=False)
            except FileExistsError as error:
                raise StorageConflictError("the table exists already") from error


@on_sqlite("R115")
class ClearsProgressWhenItOpens(TransactionalRelay):
    """Drops the progress of jobs when it opens a store, as if they were to begin afresh."""

    async def open(self) -> None:
        """Open, and clear."""
        await super().open()
        with closing(sqlite3.connect(file_of(self.url))) as connection, connection:
            connection.execute("UPDATE pannier_jobs SET progress = NULL, progress_encoding = NULL")
