"""SQLite, held to every rule of the contract, those that need test aids among them."""

from collections.abc import Callable, Mapping

from pannier.storage import JobStorageProvider
from pannier_testing import NewerSchema, Place, StorageConformance
from pannier_testing.saboteurs import sqlite_aids


class TestSqlite(StorageConformance):
    """A file in each place."""

    def storage_url(self, env: Place) -> str:
        return f"sqlite:///{env.tmp}/jobs.db"

    def damage(self, url: str, tracking_id: str) -> None:
        sqlite_aids.damage(url, tracking_id)

    def store_size(self, url: str) -> int:
        return sqlite_aids.pages_in_use(url)

    def earlier_stores(self) -> Mapping[str, Callable[[str], JobStorageProvider]]:
        return {"1": sqlite_aids.of_the_first_schema}

    def make_newer(self, url: str, newer: NewerSchema) -> None:
        sqlite_aids.make_newer(url, newer)

    def unknown_fields(self, url: str) -> Mapping[str, object]:
        return sqlite_aids.colours(url)
