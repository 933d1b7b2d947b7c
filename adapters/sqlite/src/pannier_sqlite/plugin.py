"""The plugin: what the entry point of pannier-sqlite names. Imports no driver."""

from typing import Final

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_sqlite.settings import OPTIONS, settings_of


class SqlitePlugin:
    """Offers `sqlite:///relative.db` and `sqlite:////absolute.db`."""

    @hookimpl
    def pannier_storage_adapters(self) -> tuple[StorageAdapter, ...]:
        """Offer the SQLite storage."""
        return (StorageAdapter(name="sqlite", schemes=("sqlite",), create=_create, destroy=_destroy, options=OPTIONS),)


def _create(url: StorageUrl) -> JobStorageProvider:
    from pannier_sqlite.provider import SqliteStorage  # the driver, only when a storage is opened

    return SqliteStorage(settings_of(url))


async def _destroy(url: StorageUrl) -> None:
    path = settings_of(url).path
    for suffix in ("-shm", "-wal", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


plugin: Final = SqlitePlugin()
