"""The plugin: what the entry point of pannier-mongo names. Imports no driver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pannier.hookspecs import hookimpl
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_mongo.settings import OPTIONS, settings_of


class MongoPlugin:
    """Offers `mongodb://user:password@host/database` and `mongodb+srv://`."""

    @hookimpl
    def pannier_storage_adapters(self) -> tuple[StorageAdapter, ...]:
        """Offer the MongoDB storage."""
        return (
            StorageAdapter(
                name="mongo",
                schemes=("mongodb", "mongodb+srv"),
                create=_create,
                destroy=_destroy,
                options=OPTIONS,
                begin=_begin,
            ),
        )


def _create(url: StorageUrl) -> JobStorageProvider:
    from pannier_mongo.provider import MongoStorage  # the driver, only when a storage is opened

    return MongoStorage(settings_of(url))


async def _destroy(url: StorageUrl) -> None:
    from pannier_mongo._migrations import destroy

    await destroy(settings_of(url))


@asynccontextmanager
async def _begin(url: StorageUrl) -> AsyncIterator[object]:
    from pannier_mongo._connection import connect

    client = connect(settings_of(url))
    try:
        async with client.start_session() as session, await session.start_transaction():
            yield session
    finally:
        await client.close()


plugin: Final = MongoPlugin()
