"""The plugin: what the entry point of pannier-memory names."""

from threading import Lock

from pannier.errors import ConfigurationError
from pannier.hookspecs import hookimpl
from pannier.storage import StorageAdapter
from pannier.urls import StorageUrl
from pannier_memory.provider import MemoryStorage
from pannier_memory.store import Store


class MemoryPlugin:
    """
    Offers `memory://`, a store of its own for each instance, and `memory://name`, one store per name and process.

    A named store lives here, under a lock, from when its first instance opens until its last one closes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._named: dict[str, tuple[Store, int]] = {}

    @hookimpl
    def pannier_storage_adapters(self) -> tuple[StorageAdapter, ...]:
        """Offer the memory storage."""
        return (StorageAdapter(name="memory", schemes=("memory",), create=self._create, destroy=self._destroy),)

    def _create(self, url: StorageUrl) -> MemoryStorage:
        url.check_options(())
        if url.path:
            raise ConfigurationError(
                f"{url} has a path; write memory:// for a private store, memory://name for a shared one"
            )
        name = url.host
        if not name:
            return MemoryStorage(acquire=Store, release=lambda: None)
        return MemoryStorage(acquire=lambda: self._acquire(name), release=lambda: self._release(name))

    async def _destroy(self, url: StorageUrl) -> None:
        with self._lock:
            self._named.pop(url.host, None)

    def _acquire(self, name: str) -> Store:
        with self._lock:
            store, instances = self._named.get(name) or (Store(), 0)
            self._named[name] = (store, instances + 1)
            return store

    def _release(self, name: str) -> None:
        with self._lock:
            held = self._named.get(name)
            if held is None:  # destroyed meanwhile
                return
            store, instances = held
            if instances > 1:
                self._named[name] = (store, instances - 1)
            else:
                del self._named[name]


plugin = MemoryPlugin()
