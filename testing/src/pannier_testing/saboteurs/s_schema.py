"""Storages that break a rule of section S."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pannier.errors import SchemaTooNewError, StorageConflictError, StorageRefusedError
from pannier.records import Lease
from pannier.settlements import Settlement
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.making import on_reference, on_sqlite
from pannier_testing.saboteurs.relay import TransactionalRelay
from pannier_testing.saboteurs.sqlite_aids import WITH_HISTORY, file_of, written

KNOWN = 2
"""The newest schema that the SQLite adapter knows."""


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
        path = file_of(self.url.text)
        if not path.exists():
            time.sleep(0.05)  # noqa: ASYNC251  # what takes it so long
            remove(path)
        await super().open()


@on_sqlite("R114")
class CreatesWithoutALock(TransactionalRelay):
    """Makes a table of its own where it saw none, outside of any lock: the second of two fails."""

    def __init__(self, inner: JobStorageProvider, url: StorageUrl) -> None:
        super().__init__(inner, url)
        self._note = Path(f"{file_of(url.text)}.made")

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
        with written(file_of(self.url.text)) as connection:
            connection.execute("UPDATE pannier_jobs SET progress = NULL, progress_encoding = NULL")


def schema_of(path: Path) -> int:
    """Return the version of a file's schema; 0: there is none."""
    with written(path) as connection:
        is_made = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'pannier_schema'").fetchone()
        if is_made == (0,):
            return 0
        (version,) = connection.execute("SELECT max(version) FROM pannier_schema").fetchone()
    return int(version)


@on_sqlite("R115", aids=WITH_HISTORY)
class MakesAnOlderStoreAnew(TransactionalRelay):
    """Drops the tables of an earlier schema and makes its own, instead of a migration."""

    async def open(self) -> None:
        """Remove an older file, then open."""
        path = file_of(self.url.text)
        if 0 < schema_of(path) < KNOWN:
            remove(path)
        await super().open()


@on_sqlite("R115", aids=WITH_HISTORY)
class WorksOnWhateverItFinds(TransactionalRelay):
    """Takes a newer, incompatible schema for its own."""

    async def open(self) -> None:
        """Say that the schema is the known one, then open."""
        if schema_of(file_of(self.url.text)) > KNOWN:
            with written(file_of(self.url.text)) as connection:
                connection.execute("DELETE FROM pannier_schema WHERE version > ?", (KNOWN,))
        await super().open()


@on_sqlite("R115", aids=WITH_HISTORY)
class NotesThatItWasThere(TransactionalRelay):
    """Refuses a newer, incompatible store, and has changed its jobs by then."""

    async def open(self) -> None:
        """Write something, then open."""
        if schema_of(file_of(self.url.text)) > KNOWN:
            with written(file_of(self.url.text)) as connection:
                connection.execute("UPDATE pannier_jobs SET colour = 'seen'")
        await super().open()


@on_sqlite("R115", aids=WITH_HISTORY)
class RefusesAllThatIsNewer(TransactionalRelay):
    """Refuses a store of any newer schema, a compatible one as well."""

    async def open(self) -> None:
        """Compare the versions alone."""
        found = schema_of(file_of(self.url.text))
        if found > KNOWN:
            raise SchemaTooNewError(found, KNOWN)
        await super().open()


@on_sqlite("R116", aids=WITH_HISTORY)
class DropsWhatItDoesNotKnow(TransactionalRelay):
    """Writes a job as a whole when it settles it, of the fields that it knows."""

    async def settle_jobs(self, settlements: Sequence[Settlement], *, now: datetime) -> frozenset[Lease]:
        """Settle, and lose what else there was."""
        refused = await super().settle_jobs(settlements, now=now)
        path = file_of(self.url.text)
        if schema_of(path) > KNOWN:
            with written(path) as connection:
                settled = [(str(settlement.lease.tracking_id),) for settlement in settlements]
                connection.executemany("UPDATE pannier_jobs SET colour = NULL WHERE tracking_id = ?", settled)
        return refused


@on_sqlite("R116", aids=WITH_HISTORY)
class FailsOnWhatItDoesNotKnow(TransactionalRelay):
    """Fails on a field that it does not know."""

    async def open(self) -> None:
        """Compare the columns with those that it knows, then open."""
        with written(file_of(self.url.text)) as connection:
            columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('pannier_jobs')")]
        if "colour" in columns:
            raise StorageRefusedError("the jobs have a field 'colour', which nobody knows")
        await super().open()


@on_sqlite("R116", aids=WITH_HISTORY)
class GivesBackWhatTheOldVersionHolds(TransactionalRelay):
    """Takes the workers of an earlier version to be gone when it migrates their store, and frees their jobs."""

    async def open(self) -> None:
        """Migrate, and put running jobs back."""
        path = file_of(self.url.text)
        is_older = 0 < schema_of(path) < KNOWN
        await super().open()
        if is_older:
            with written(path) as connection:
                connection.execute(
                    "UPDATE pannier_jobs SET status = 'pending', worker_id = NULL WHERE status = 'running'"
                )
