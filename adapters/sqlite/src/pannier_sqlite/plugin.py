"""The plugin: what the entry point of pannier-sqlite names. Imports no driver."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Final, final

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_sqlite._files import OpenFiles
from pannier_sqlite.settings import OPTIONS, settings_of


@final
class SqlitePlugin:
    """
    Offers `sqlite:///relative.db` and `sqlite:////absolute.db`.

    Knows which files this process has open, since SQLite's locks do not survive a fork.
    """

    def __init__(self) -> None:
        self._files = OpenFiles()

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer the SQLite storage."""
        return (
            StorageAdapter(
                name="sqlite",
                schemes=("sqlite",),
                create=self._create,
                destroy=self._destroy,
                options=OPTIONS,
                exists=self._exists,
                begin=_begin,
            ),
        )

    def _create(self, url: StorageUrl) -> JobStorageProvider:
        settings = settings_of(url)
        from pannier_sqlite.provider import SqliteStorage

        return SqliteStorage(settings, self._files)

    async def _exists(self, url: StorageUrl) -> bool:
        return await asyncio.to_thread(settings_of(url).path.exists)

    async def _destroy(self, url: StorageUrl) -> None:
        settings = settings_of(url)
        from pannier_sqlite._destroying import destroy

        await asyncio.to_thread(destroy, settings)


@asynccontextmanager
async def _begin(url: StorageUrl) -> AsyncIterator[object]:
    from pannier_sqlite._connection import connect

    with closing(connect(settings_of(url))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


plugin: Final = SqlitePlugin()
