"""The plugin: what the entry point of pannier-mongo names. Imports no driver."""

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
            ),
        )


def _create(url: StorageUrl) -> JobStorageProvider:
    from pannier_mongo.provider import MongoStorage  # the driver, only when a storage is opened

    return MongoStorage(settings_of(url))


async def _destroy(url: StorageUrl) -> None:
    from pannier_mongo._migrations import destroy

    await destroy(settings_of(url))


plugin: Final = MongoPlugin()
