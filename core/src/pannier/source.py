"""Where the storages of a `JobQueues` come from: an adapter, by URL, or the one provider that was given."""

from pannier.errors import ConfigurationError
from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider
from pannier.urls import StorageUrl


class StorageSource:
    """
    Makes unopened storages, all of one place.

    Attributes:
        name: What to call it in messages; without its password.
        gives_many: Whether each `create` makes another instance, as an adapter does.
    """

    def __init__(self, storage: str | JobStorageProvider, plugins: Plugins) -> None:
        """
        Look at *storage*, which is a URL or an unopened provider; nothing is opened or connected.

        Raises:
            ConfigurationError: No installed adapter serves the URL, an option is wrong, or it is neither.
        """
        self._plugins = plugins
        self._given: StorageUrl | JobStorageProvider
        if isinstance(storage, str):
            self._given = StorageUrl(storage)
            plugins.create_storage(self._given)  # an unknown scheme or option is told here, not at the first job
            self.name = str(self._given)
        elif isinstance(storage, JobStorageProvider):
            self._given, self.name = storage, type(storage).__qualname__
        else:
            raise ConfigurationError(
                f"a storage is a URL or implements pannier.storage.JobStorageProvider; "
                f"{type(storage).__qualname__} does not"
            )
        self.gives_many = isinstance(self._given, StorageUrl)

    def create(self) -> JobStorageProvider:
        """Return an unopened storage."""
        given = self._given
        return self._plugins.create_storage(given) if isinstance(given, StorageUrl) else given

    async def exists(self) -> bool:
        """
        Return whether something is there that `open()` would find; True where only opening can tell.

        Raises:
            StorageError: The adapter can't look.
        """
        if not isinstance(self._given, StorageUrl):
            return True
        exists = self._plugins.adapter_for(self._given).exists
        return exists is None or await exists(self._given)
