"""The plugin: what the entry point of pannier-postgres names. Imports no driver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_postgres.settings import OPTIONS, settings_of


class PostgresPlugin:
    """Offers `postgresql://user:password@host/database?schema=pannier`."""

    @hookimpl
    def pannier_storage_adapters(self) -> tuple[StorageAdapter, ...]:
        """Offer the PostgreSQL storage."""
        return (
            StorageAdapter(
                name="postgres",
                schemes=("postgresql",),
                create=_create,
                destroy=_destroy,
                options=OPTIONS,
                begin=_begin,
            ),
        )


def _create(url: StorageUrl) -> JobStorageProvider:
    from pannier_postgres.provider import PostgresStorage  # the driver, only when a storage is opened

    return PostgresStorage(settings_of(url))


async def _destroy(url: StorageUrl) -> None:
    from pannier_postgres._migrations import destroy

    await destroy(settings_of(url))


@asynccontextmanager
async def _begin(url: StorageUrl) -> AsyncIterator[object]:
    from pannier_postgres._connection import connect, disconnect

    connection = await connect(settings_of(url))
    try:
        async with connection.transaction():
            yield connection
    finally:
        await disconnect(connection)


plugin: Final = PostgresPlugin()
