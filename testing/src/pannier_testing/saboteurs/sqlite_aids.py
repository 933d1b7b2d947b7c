"""The test aids for SQLite files: of the saboteurs that stand before that adapter, and of its own conformance tests."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl
from pannier_testing.saboteurs.making import Aids
from pannier_testing.saboteurs.relay import TransactionalRelay
from pannier_testing.subject import NewerSchema


def file_of(url: str) -> Path:
    """Return the file that a URL names, whatever its scheme."""
    return Path(url.partition("://")[2].partition("?")[0])


@contextmanager
def written(path: Path) -> Iterator[sqlite3.Connection]:
    """Lend a connection to a file; commit what was done."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def damage(url: str, tracking_id: str) -> None:
    """Break the command of a job."""
    with written(file_of(url)) as connection:
        changed = connection.execute(
            "UPDATE pannier_jobs SET command = '{\"broken' WHERE tracking_id = ?", (tracking_id,)
        )
        assert changed.rowcount == 1


def pages_in_use(url: str) -> int:
    """Return how many pages of the file hold something."""
    with closing(sqlite3.connect(file_of(url))) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


class OfTheFirstSchema(TransactionalRelay):
    """The adapter as of schema 1: it makes a store without the view of schema 2, and needs none."""

    async def open(self) -> None:
        """Open, and undo the second migration."""
        await super().open()
        with written(file_of(self.url.text)) as connection:
            connection.execute("DROP VIEW pannier_readable_jobs")
            connection.execute("DELETE FROM pannier_schema WHERE version > 1")


def of_the_first_schema(url: str) -> JobStorageProvider:
    """Return an instance that makes and uses stores of schema 1."""
    real = StorageUrl(f"sqlite://{url.partition('://')[2]}")
    return OfTheFirstSchema(Plugins.installed().create_storage(real), real)


def make_newer(url: str, newer: NewerSchema) -> None:
    """Give each job a colour, by a schema that comes after the last."""
    with written(file_of(url)) as connection:
        (known,) = connection.execute("SELECT max(version) FROM pannier_schema").fetchone()
        connection.execute("ALTER TABLE pannier_jobs ADD COLUMN colour TEXT")
        connection.execute("UPDATE pannier_jobs SET colour = 'red ' || tracking_id")
        usable_from = known if newer is NewerSchema.COMPATIBLE else known + 1
        connection.execute("INSERT INTO pannier_schema VALUES (?, ?)", (known + 1, usable_from))


def colours(url: str) -> Mapping[str, object]:
    """Return the colour of each job."""
    with closing(sqlite3.connect(file_of(url))) as connection:
        return dict(connection.execute("SELECT tracking_id, colour FROM pannier_jobs"))


DAMAGEABLE: Final = Aids(damage=damage)
MEASURABLE: Final = Aids(store_size=pages_in_use)
WITH_HISTORY: Final = Aids(earlier_stores={"1": of_the_first_schema}, make_newer=make_newer, unknown_fields=colours)
